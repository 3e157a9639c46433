"""Run the ways one after another within a time limit; print and write the results after each."""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu.nvml import DeviceSampler, DeviceUse, use_of
from benchmarks.gpu.processes import MpsClients, run_limited
from benchmarks.gpu.results import Result
from benchmarks.gpu.table import report, rows
from benchmarks.gpu.task import Task
from benchmarks.gpu.trials import read_trials
from benchmarks.gpu.ways import Way, command, environment

LEAST_S = 35.0
"""Seconds that must be left to start a way."""
ENDING_S = 20.0
"""Seconds of the whole time reserved for ending processes and writing."""
PACKAGES = ("torch", "sentence-transformers", "transformers", "accelerate", "datasets", "optuna", "mlflow", "numpy")
LOGS = ("log.txt", "spec.json", "journal.log", "sweeps/*/journal.log", "sweeps/*/workers/*.log")
TAIL_LINES = 20
TAIL_COLUMNS = 200


@dataclass(frozen=True)
class Limits:
    """Time limits.

    Attributes:
        seconds: of all ways together.
        of_way: seconds by the name of a way, ``*`` for the others; without it they may take all that is left.
    """

    seconds: float
    of_way: Mapping[str, float]

    def left_for(self, way: Way, elapsed: float) -> float | None:
        """Return the time limit of a way that starts now, in seconds; None if too little time is left."""
        left = self.seconds - ENDING_S - elapsed
        return None if left < LEAST_S else min(self.of_way.get(way.name, self.of_way.get("*", left)), left)


class Benchmark:
    """Run ways and keep their results.

    Args:
        task: the task of each way of embedsweep.
        n_points_of_peer: how many of its points A gets, the first ones.
        extra: overrides for embedsweep.
        limits: time limits, counted from now.
        mps: whether CUDA MPS is there.
        work: folder they run in.
        out: folder for the results.
        arguments: of the command, recorded with the results.

    Attributes:
        results: of the ways that have ended.
    """

    def __init__(
        self,
        task: Task,
        n_points_of_peer: int,
        extra: Sequence[str],
        limits: Limits,
        mps: bool,
        work: Path,
        out: Path,
        arguments: Mapping[str, Any],
    ) -> None:
        self.results: list[Result] = []
        self._started = time.monotonic()
        self._interrupted = threading.Event()
        self._task = task
        self._peer_task = replace(task, points=task.points[:n_points_of_peer])
        self._extra = extra
        self._limits = limits
        self._mps = mps
        self._work = work
        self._out = out
        self._sampler = DeviceSampler()
        self._about = {
            "device": self._sampler.device if task.device == "cuda" else "CPU",
            "cores": len(os.sched_getaffinity(0)),
            "mps": mps,
            "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "arguments": dict(arguments),
            "examples": dict(task.examples),
            "versions": versions(),
        }

    def run(self, ways: Sequence[Way]) -> None:
        """Run the ways in order, as far as time allows, until SIGTERM or Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._interrupted.set())
        print(json.dumps(self._about), flush=True)
        self._sampler.start()
        for way in ways:
            if self._interrupted.is_set():
                print(f"interrupted; {way.name} and the ways after it were not started", flush=True)
                break
            self._run_one(way)
        print(f"\n{self._report()}", flush=True)

    def _run_one(self, way: Way) -> None:
        """Run a way if enough time is left, and write the results so far."""
        elapsed = time.monotonic() - self._started
        limit = self._limits.left_for(way, elapsed)
        if limit is None:
            print(f"{way.name}: not started, {self._limits.seconds - elapsed:.0f} s left", flush=True)
            return
        print(f"[{elapsed:.0f} s] {way.name}: started, limit {limit:.0f} s", flush=True)
        folder = self._work / way.folder
        try:
            folder.mkdir(parents=True)
            result = self._measure(way, folder, limit)
        except (OSError, LookupError, ValueError):  # concern one way: the others are still measured
            traceback.print_exc()
            return
        self.results.append(result)
        if result.ended.code or result.is_short:
            print(_tail(folder / "log.txt"), flush=True)
        print("\n".join(rows(self.results)), flush=True)
        self._write()

    def _measure(self, way: Way, folder: Path, limit: float) -> Result:
        task = self._peer_task if way.is_peer else self._task
        clients = MpsClients(way.workers) if self._mps else None
        ended = run_limited(
            command(way, task, folder, limit, self._extra),
            folder,
            environment(way, os.environ),
            folder / "log.txt",
            limit,
            self._interrupted,
            (lambda: None) if clients is None else clients.watch,
        )
        trials = tuple(read_trials(way, folder, task))
        seen = None if clients is None else clients.most
        result = Result(way, len(task.points), ended, trials, seen, DeviceUse())
        return replace(result, use=use_of(self._sampler.samples, *result.measured_between))

    def _write(self) -> None:
        """Write the report, the figures and the logs."""
        (self._out / "compare.txt").write_text(f"{self._report()}\n", encoding="utf-8")
        figures = {**self._about, "ways": [result.figures() for result in self.results]}
        (self._out / "compare.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        with tarfile.open(self._out / "logs.tar.gz", "w:gz") as logs:
            for path in (path for pattern in LOGS for path in self._work.glob(f"*/{pattern}")):
                logs.add(path, arcname=str(path.relative_to(self._work)))

    def _report(self) -> str:
        mps = "up" if self._mps else "not there"
        head = f"{self._about['device']}, {self._about['cores']} cores, MPS {mps}, {self._about['at']}"
        return f"{head}\n{report(self.results)}"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"  | {line[:TAIL_COLUMNS]}" for line in lines)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter to speed; ``none`` of one that is not installed."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
