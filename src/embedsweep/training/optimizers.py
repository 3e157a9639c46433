"""Optimizers and learning-rate schedules as sentence-transformers' training arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedsweep.config.trial import OptimizerConfig, Schedule

OPTIMIZERS: Mapping[str, str] = {
    "adamw": "adamw_torch_fused",
    "adafactor": "adafactor",
    "schedule_free": "schedule_free_adamw",
}
"""Name -> transformers' name. Its Lion needs bitsandbytes, which is not a dependency here."""

SCHEDULES: Mapping[Schedule, str] = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def optimizer_arguments(config: OptimizerConfig) -> dict[str, Any]:
    """Return the training arguments of an optimizer and its schedule.

    ``schedule_free`` (Defazio et al. 2024, https://arxiv.org/abs/2405.15682) warms up by itself over a number of steps,
    but takes a ratio for a number of steps below 1, which gives no warm-up: therefore steps are left to it and ratios
    to the schedule; with both, the rate would be warmed up twice. The logged rate lacks the warm-up over steps.
    """
    in_steps = config.warmup >= 1
    schedule = SCHEDULES[config.schedule]
    if config.name == "schedule_free" and in_steps:
        schedule = "constant"
    return {
        "optim": OPTIMIZERS[config.name],
        "learning_rate": config.lr,
        "weight_decay": config.weight_decay,
        "warmup_steps": int(config.warmup) if in_steps else config.warmup,
        "lr_scheduler_type": schedule,
        "max_grad_norm": config.max_grad_norm,
    }
