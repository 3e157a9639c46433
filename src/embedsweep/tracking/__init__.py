"""Recording of studies and trials in MLflow; while the store is unreachable, records are spooled on the local disk.

No code here uses MLflow's active run: every call names its run, so that the run of a trial that died cannot receive
the metrics of the next one.
"""
