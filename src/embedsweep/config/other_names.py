"""What Optuna, Hydra's sweepers, transformers and sentence-transformers call things that have another name here."""

from __future__ import annotations

from collections.abc import Collection

KEYS = {
    # Optuna, and Hydra's sweepers and launchers
    "study_name": "study.name",
    "n_trials": "study.n_trials",
    "n_jobs": "workers.count, with workers=local",
    "direction": "study.objective, whose metric has its direction",
    "directions": "study.objective, whose metrics have their directions",
    "sampler": "study.sampler",
    "pruner": "study.pruner",
    "storage": "study.storage",
    "timeout": "study.timeout",
    "load_if_exists": "study.name: a study of that name is always resumed",
    "search_space": "the key itself with its values, or search=NAME",
    "params": "the key itself with its values, or search=NAME",
    # transformers and sentence-transformers
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "epochs": "trainer.epochs",
    "n_epochs": "trainer.epochs",
    "num_epochs": "trainer.epochs",
    "num_train_epochs": "trainer.epochs",
    "steps": "trainer.max_steps",
    "max_steps": "trainer.max_steps",
    "batch_size": "dataloader.batch_size",
    "train_batch_size": "dataloader.batch_size",
    "per_device_train_batch_size": "dataloader.batch_size",
    "eval_batch_size": "evaluation.batch_size",
    "per_device_eval_batch_size": "evaluation.batch_size",
    "gradient_accumulation_steps": "dataloader.micro_batch_size, of which a batch consists",
    "mini_batch_size": "dataloader.micro_batch_size",
    "warmup_ratio": "optimizer.warmup, below 1",
    "warmup_steps": "optimizer.warmup, from 1",
    "lr_scheduler_type": "optimizer.schedule",
    "scheduler": "optimizer.schedule",
    "optim": "optimizer=OPTION",
    "fp16": "trainer.precision=fp16",
    "bf16": "trainer.precision=bf16",
    "eval_steps": "trainer.eval_every",
    "evaluation_steps": "trainer.eval_every",
    "eval_strategy": "trainer.eval_every",
    "evaluation_strategy": "trainer.eval_every",
    "save_steps": "trainer.eval_every: each evaluation writes a checkpoint",
    "save_strategy": "trainer.eval_every: each evaluation writes a checkpoint",
    "logging_steps": "trainer.log_every",
    "metric_for_best_model": "study.objective",
    "early_stopping_patience": "trainer.early_stopping.patience",
    "early_stopping_threshold": "trainer.early_stopping.min_delta",
    "use_cpu": "trainer.device=cpu",
    "no_cuda": "trainer.device=cpu",
    "model_name": "model.path, with model=pretrained",
    "model_name_or_path": "model.path, with model=pretrained",
    "base_model": "model.path, with model=pretrained",
    "max_length": "model.max_seq_length",
    "dataset": "data=OPTION",
    "dataset_name": "data=OPTION",
    "train_dataset": "data=OPTION",
    "output_dir": "sweeps/ of the working directory",
    "output_path": "sweeps/ of the working directory",
    "resume_from_checkpoint": "resume",
}
"""The last part of a key elsewhere -> what it is here."""

WORDS = {
    "asha": "successive_halving",
    "sha": "successive_halving",
    "halving": "successive_halving",
    "successivehalving": "successive_halving",
    "patient": "patience",
    "nop": "none",
    "grid": "exhaustive",
    "bruteforce": "exhaustive",
    "bayesian": "gp",
    "gaussian_process": "gp",
    "cma": "cmaes",
    "cma_es": "cmaes",
    "sobol": "qmc",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "gpu": "cuda",
    "multiplenegativesranking": "mnrl",
    "multiplenegativesrankingsymmetric": "mnrl_symmetric",
    "cachedmultiplenegativesranking": "mnrl",
    "infonce": "mnrl",
    "cosinesimilarity": "cosine",
    "adam": "adamw",
    "sbatch": "slurm",
    "srun": "slurm",
    "submitit": "slurm",
    "submitit_slurm": "slurm",
    "joblib": "local",
    "multiprocessing": "local",
    "processes": "local",
    "submitit_local": "local",
    "basic": "inline",
}
"""A word elsewhere, in small letters, without Sampler, Pruner and Loss at its end -> the word here."""

_EACH = "the same command with workers=local"
ENGINES = {
    "kubernetes": f"{_EACH} in each pod: docs/CLUSTERS.md",
    "k8s": f"{_EACH} in each pod: docs/CLUSTERS.md",
    "dask": f"{_EACH} on each machine: docs/CLUSTERS.md",
    "spark": f"{_EACH} on each machine: docs/CLUSTERS.md",
    "ssh": f"{_EACH} on each machine: docs/CLUSTERS.md",
    "mpi": f"{_EACH} on each machine: docs/CLUSTERS.md",
}
"""What starts processes elsewhere and is no option of ``workers`` -> what to run there."""

FUNCTIONS = {
    "uniform": "interval({})",
    "suggest_uniform": "interval({})",
    "suggest_float": "interval({})",
    "log": "tag(log,interval({}))",
    "loguniform": "tag(log,interval({}))",
    "log_uniform": "tag(log,interval({}))",
    "suggest_loguniform": "tag(log,interval({}))",
    "randint": "int(interval({}))",
    "suggest_int": "int(interval({}))",
    "categorical": "choice({})",
    "suggest_categorical": "choice({})",
}
"""A function elsewhere -> the sweep here, with a place for what is in its brackets."""


def here(key: str) -> str | None:
    """Return what a key of another library is called here; None if it is none, or is called so here."""
    name = KEYS.get(key.rpartition(".")[2].lower())
    return None if name == key else name


def word_here(word: str, allowed: Collection[str]) -> str | None:
    """Return the allowed word for a word of another library (``TPESampler``, ``asha``); None if there is none."""
    plain = word.lower()
    for end in ("sampler", "pruner", "loss"):
        plain = plain.removesuffix(end)
    return next((each for each in (WORDS.get(plain), plain) if each in allowed), None)
