"""What a trial costs in energy and CO2, attempt by attempt.

Owns ``emissions.csv`` of a trial's folder and is the only package that knows CodeCarbon. Must not know Optuna, MLflow,
torch's training or which trial it measures. Every tracker counts the whole machine: in a process group only rank 0
may measure, and workers that run at the same time share the one of the process that started them.
"""
