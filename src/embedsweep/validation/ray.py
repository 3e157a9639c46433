"""Validate workers on a Ray cluster, as far as that is possible before the cluster is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec

from embedsweep.config.study import StudyConfig
from embedsweep.config.values import shown
from embedsweep.config.workers import RayWorkersConfig
from embedsweep.errors import Problem

CLIENT = "ray://"
SUBMIT = "ray job submit -- embedsweep train ..."


def check_ray(workers: RayWorkersConfig, study: StudyConfig) -> Iterator[Problem]:
    """Report what is missing for Ray, what it decides itself, and what a study cannot do on it.

    Args:
        workers: the ``workers`` section.
        study: the ``study`` section.
    """
    if find_spec("ray") is None:
        yield Problem("workers", "workers=ray needs Ray: pip install 'embedsweep[ray]'")
    yield from _check_address(workers.address)
    if workers.per_device != 1:
        message = f"Ray deals out GPUs, but got {workers.per_device}: workers.gpus=0.25 lets four workers share one"
        yield Problem("workers.per_device", message)
    if workers.mps is not False:
        message = f"a daemon has to run on the nodes already, and workers use it then, but got {shown(workers.mps)}"
        yield Problem("workers.mps", f"{message}: leave it out")
    if workers.gpus is not None and workers.gpus > 1 and workers.gpus % 1:
        yield Problem("workers.gpus", f"must be a fraction below 1 or a whole number, but got {workers.gpus:g}")
    if study.dry_run == "quote" or study.budget_hours is not None:
        key = "study.budget_hours" if study.budget_hours is not None else "study.dry_run"
        message = "times trials on this machine, which says nothing of a cluster's nodes: quote with workers=local"
        yield Problem(key, message)


def check_ray_device(device: str) -> Iterator[Problem]:
    """Report a ``trainer.device`` that names a GPU by number: Ray numbers those of each worker from 0."""
    if re.fullmatch(r"cuda:\d+", device):
        yield Problem("trainer.device", f"Ray deals out GPUs, but got {device}: use auto or cuda")


def _check_address(address: str) -> Iterator[Problem]:
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    key = "workers.address" if named == address else "RAY_ADDRESS"
    if named.startswith(CLIENT):
        message = (
            f"{named} is a Ray client's address, which lacks what a study needs: start the command on a node, or from "
            f"outside with {SUBMIT}"
        )
        yield Problem(key, message)
    elif key == "workers.address" and address not in ("auto", "none") and not re.fullmatch(r"\S+:\d+", address):
        message = f"must be auto, none or the HOST:PORT of a cluster's head (as 10.0.0.1:6379), but got {address}"
        yield Problem(key, message)
