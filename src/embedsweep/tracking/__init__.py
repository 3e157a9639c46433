"""The only writer to MLflow: a store is opened, a study's and its trials' runs are written, people look at them.

Owns the names of experiments, tags and params that others read, and how MLflow is kept from blocking, chattering and
losing data: where the store goes away, what is recorded waits on this disk. Must not know Optuna, Hydra or how a trial
is trained, and never uses MLflow's active run: every call names its run, so a trial that died cannot catch the next
one's numbers.
"""
