"""Optimizers and schedules: sentence-transformers' training arguments for each.

Owns the tables from this project's names to transformers'. Knows nothing of models. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedsweep.schema import OptimizerConfig, Schedule

OPTIMIZERS: Mapping[str, str] = {"adamw": "adamw_torch_fused"}
SCHEDULES: Mapping[Schedule, str] = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def optimizer_arguments(config: OptimizerConfig) -> dict[str, Any]:
    """The training arguments that make this optimizer and schedule."""
    return {
        "optim": OPTIMIZERS[config.name],
        "learning_rate": config.lr,
        "weight_decay": config.weight_decay,
        "warmup_steps": config.warmup if config.warmup < 1 else int(config.warmup),
        "lr_scheduler_type": SCHEDULES[config.schedule],
        "max_grad_norm": config.max_grad_norm,
    }
