"""The ways to run the trials: their names, and the command and environment of each."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.task import (
    BATCH_SIZES,
    EVALUATION_BATCH_SIZE,
    LEARNING_RATE,
    LOG_EVERY,
    LOSSES,
    POSITIVE_THRESHOLD,
    RUNGS,
    SEED,
    WARMUP,
    Task,
)

REPOSITORY = Path(__file__).resolve().parents[2]
STUDY = "compare"
GRAPHS_ON = "trainer.cuda_graphs=true"
GRAPHS_OFF = "trainer.cuda_graphs=false"
"""The override of a way without ``+g``."""
MPS_VARIABLES = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
ENDING_S = 20.0
"""A way starts no trial in the last seconds before its limit."""


@dataclass(frozen=True)
class Way:
    """One way to run the trials.

    Attributes:
        name: as given to ``parse_way``.
        workers: processes that train at the same time.
        mps: whether they share the GPU through CUDA MPS.
        graphs: whether they train with CUDA graphs.
        pruning: whether trials are pruned.
    """

    name: str
    workers: int = 1
    mps: bool = False
    graphs: bool = False
    pruning: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether this is sentence-transformers' own search, with which the others are compared."""
        return self.name == "A"

    @property
    def folder(self) -> str:
        """The name of the folder it runs in."""
        return self.name.replace("+", "-")


def parse_way(name: str) -> Way:
    """Return the way of a name: ``A``, ``B8``, ``B8+m+g+p``.

    Raises:
        ValueError: there is no such way.
    """
    if name == "A":
        return Way(name)
    found = re.fullmatch(r"B([1-9]\d*)((?:\+[mgp])*)", name)
    suffixes = found[2].split("+")[1:] if found else []
    if found is None or len(set(suffixes)) < len(suffixes):
        raise ValueError(
            f"no way {name!r}: it is A, or B and the number of workers, then each at most once "
            "+m (MPS), +g (CUDA graphs), +p (pruning)"
        )
    return Way(name, int(found[1]), "m" in suffixes, "g" in suffixes, "p" in suffixes)


def parse_ways(names: str) -> list[Way]:
    """Return the ways of names with commas between them.

    Raises:
        ValueError: there is no such way, or one is named twice.
    """
    ways = [parse_way(name) for name in names.split(",")]
    if len(set(ways)) < len(ways):
        raise ValueError(f"--ways {names}: names a way twice")
    return ways


def command(way: Way, task: Task, folder: Path, limit_s: float, extra: Sequence[str]) -> list[str]:
    """Return the command of a way, to be run in its folder.

    Args:
        way: the way.
        task: its task.
        folder: the way's own; A's arguments are written there.
        limit_s: seconds after which it is ended.
        extra: overrides for embedsweep.
    """
    seconds = max(5.0, limit_s - ENDING_S)
    if way.is_peer:
        spec = {
            "model": str(task.model),
            "data": str(task.data),
            "device": task.device,
            "points": [asdict(point) for point in task.points],
            "max_steps": task.max_steps,
            "seconds": seconds,
        }
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        return [sys.executable, "-m", "benchmarks.gpu.trainer_search", "spec.json"]
    overrides = [*_task_overrides(task), *_study_overrides(task, seconds), *_way_overrides(way, task), *extra]
    return [sys.executable, "-m", "embedsweep", "train", "-m", *overrides]


def _task_overrides(task: Task) -> list[str]:
    return [
        "model=pretrained",
        f"model.path={task.model}",
        "data=stsb_multi_mt",
        f"data.path={task.data}",
        f"data.convert.positive_threshold={POSITIVE_THRESHOLD}",
        "trainer.epochs=1",
        *([] if task.max_steps is None else [f"trainer.max_steps={task.max_steps}"]),
        f"trainer.precision={'fp32' if task.device == 'cpu' else 'bf16'}",
        f"trainer.device={task.device}",
        f"trainer.seed={SEED}",
        "trainer.eval_every=1e6",  # dev is scored only at the end, and at rungs
        "evaluation.before=false",
        f"evaluation.batch_size={EVALUATION_BATCH_SIZE}",
        f"trainer.log_every={LOG_EVERY}",
    ]


def _study_overrides(task: Task, seconds: float) -> list[str]:
    points = ",".join(
        f"{{loss:{point.loss},optimizer.lr:{point.lr!r},optimizer.warmup:{point.warmup!r},"
        f"dataloader.batch_size:{point.batch_size}}}"
        for point in task.points
    )
    return [
        f"loss={','.join(LOSSES)}",
        f"optimizer.lr=tag(log,interval({LEARNING_RATE[0]},{LEARNING_RATE[1]}))",
        f"optimizer.warmup=interval({WARMUP[0]},{WARMUP[1]})",
        f"dataloader.batch_size=choice({','.join(map(str, BATCH_SIZES))})",
        f"study.name={STUDY}",
        f"study.n_trials={len(task.points)}",
        f"study.timeout={seconds:.0f}",
        "study.sampler=tpe",  # draws nothing: every point is given
        f"study.seed={SEED}",
        f"study.enqueue=[{points}]",
    ]


def _way_overrides(way: Way, task: Task) -> list[str]:
    graphs = GRAPHS_ON if way.graphs else GRAPHS_OFF
    return [
        "workers=local",
        f"workers.count={way.workers}",
        f"workers.per_device={1 if task.device == 'cpu' else way.workers}",
        f"workers.mps={'auto' if way.mps else 'false'}",
        graphs,
        *(_pruning_overrides() if way.pruning else []),
    ]


def _pruning_overrides() -> list[str]:
    return ["study.pruner=successive_halving", f"study.pruning.rungs=[{','.join(map(str, RUNGS))}]"]


def environment(way: Way, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a way's command.

    Inherited thread limits are removed, so that each search uses its own; a way without MPS does not find its daemon.
    """
    dropped = () if way.mps else MPS_VARIABLES
    kept = {name: value for name, value in inherited.items() if name not in dropped and not name.startswith("OMP_")}
    own = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if way.is_peer:
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), inherited.get("PYTHONPATH")]))
    return kept | own
