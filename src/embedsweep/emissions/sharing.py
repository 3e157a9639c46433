"""One measurement of the machine, shared out among workers that run at the same time.

Owns the rule by which energy is shared. Must not know trials: a worker's meter takes a trial's part from the worker's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions.gpu_time import EQUAL_PARTS, GPU_TIME, GpuTime, fractions
from embedsweep.emissions.share import Energy, Share, end_trial, gpus_of_trial, share_path, take_question, write_share
from embedsweep.emissions.tracker import Reading, Tracker
from embedsweep.emissions.usage import Usage

READ_EVERY_S = 5.0
LOOK_EVERY_S = 0.05

# This class reads often itself, and CodeCarbon's own thread counts energy twice if it measures in the same moment.
NEVER_S = 7 * 24 * 3600.0

ENERGY_BY = {
    "": "by CPU time",
    GPU_TIME: "by CPU and GPU time",
    EQUAL_PARTS: "by CPU time, of GPUs in equal parts",
}
"""How energy is shared out, in words, by how the time of GPUs is."""


class SharedEmissions:
    """Measures the machine while the block runs and shares its energy, and the time of its GPUs, out among workers.

    Energy of an interval in which at least one worker is there is shared out entirely: that of CPU and RAM by the CPU
    time that each used, in equal parts where none used any; that of each GPU as its time is (`GpuTime`), and where no
    trial holds one by CPU time. What the machine drew for others is in it, as it is for a single tracker.

    Args:
        config: where the electricity comes from.
        folder: takes a file a worker; files of an earlier command's workers are deleted.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the workers train on, whose energy counts; without
            any, that of all visible ones does.
    """

    def __init__(self, config: EmissionsConfig, folder: Path, gpus: Sequence[str] = ()) -> None:
        self._tracker = Tracker(config.country_iso_code, gpus, NEVER_S)
        self._folder = folder
        self._usage = Usage()
        self._energy: dict[int, Energy] = {}
        self._unshared = Energy()
        self._total = Energy()
        self._gpu_time = GpuTime()
        self._answered: dict[int, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shared-emissions", daemon=True)

    @property
    def unshared(self) -> Energy:
        """What was measured while there was no worker."""
        return self._unshared

    def add(self, worker: int, pid: int) -> None:
        """Counts a process and its children as worker ``worker``'s from now on.

        Its file is there when this returns. A worker that was started again goes on with its sums.
        """
        with self._lock:
            reading = self._tracker.read()
            self._share(reading)
            self._usage.add(worker, pid)
            self._energy.setdefault(worker, Energy())
            self._write(reading, worker)

    def remove(self, worker: int) -> None:
        """Counts nothing for a worker any more; do it as soon as its process has ended."""
        with self._lock:
            self._share(self._tracker.read())
            self._usage.remove(worker)
            end_trial(share_path(self._folder, worker))  # that of one that was killed
            self._set_trials()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("json", "ask", "trial"):
            for old in self._folder.glob(f"worker-*.{suffix}"):
                old.unlink(missing_ok=True)
        try:
            self._tracker.start()
            self._thread.start()
        except BaseException:
            # A signal that arrives here never reaches __exit__, and the tracker's threads would live on.
            self._tracker.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with self._lock:
            self._share(self._tracker.stop())
            self._usage.close()

    def _run(self) -> None:
        read_at = time.monotonic()
        while not self._over.wait(LOOK_EVERY_S):
            with self._lock:
                asked = self._take_questions()
                if asked or time.monotonic() - read_at >= READ_EVERY_S:
                    self._share(self._tracker.read())
                    read_at = time.monotonic()

    def _take_questions(self) -> bool:
        """Whether a worker asks for its share; what is measured after this answers it."""
        asked = {worker: take_question(share_path(self._folder, worker)) for worker in self._usage.workers}
        questions = {worker: question for worker, question in asked.items() if question is not None}
        self._answered |= questions
        return bool(questions)

    def _share(self, reading: Reading) -> None:
        """Shares out what was measured since the last time, and writes it; the caller holds the lock."""
        self._gpu_time.share(self._usage.gpu_times())
        total = _energy(reading)
        spent = total - self._total
        workers = self._usage.workers
        if not workers:
            self._unshared += spent
            self._total = total
            self._usage.gpu_energy()  # nobody's, either
        elif spent.total_kwh > 0:  # else CodeCarbon has not measured anew: what is used counts the next time
            by_cpu = fractions(self._usage.cpu_s())
            by_gpu = gpu_parts(self._gpu_time.take_recent(), self._usage.gpu_energy(), by_cpu)
            for worker in workers:
                self._energy[worker] += spent.part(by_cpu[worker], by_gpu[worker])
            self._total = total
        self._set_trials()
        for worker in workers:
            self._write(reading, worker)

    def _set_trials(self) -> None:
        """Looks which trials are under way from now on."""
        noted = {worker: gpus_of_trial(share_path(self._folder, worker)) for worker in self._usage.workers}
        self._gpu_time.set_trials(
            {worker: tuple(map(self._usage.gpu, gpus)) for worker, gpus in noted.items() if gpus is not None}
        )

    def _write(self, reading: Reading, worker: int) -> None:
        parts = {"all": reading.energy_kwh, "cpu": reading.cpu_energy_kwh, "gpu": reading.gpu_energy_kwh}
        share = Share(
            energy=self._energy[worker],
            without=tuple(name for name, figure in parts.items() if figure is None),
            by=ENERGY_BY[self._gpu_time.by(worker)],
            gpu_s=self._gpu_time.seconds(worker),
            gpu_by=self._gpu_time.by(worker),
            cpu_model=reading.cpu_model,
            gpu_model=reading.gpu_model,
            unmeasured=reading.unmeasured,
            answered=self._answered.get(worker, ""),
        )
        try:
            write_share(share_path(self._folder, worker), share)
        except OSError:  # a full disk: the worker says that it got no answer
            logging.getLogger(__name__).exception("a worker's share of the energy could not be written")


def _energy(reading: Reading) -> Energy:
    cpu, gpu, ram = reading.cpu_energy_kwh or 0.0, reading.gpu_energy_kwh or 0.0, reading.ram_energy_kwh or 0.0
    return Energy(cpu, gpu, ram, (reading.energy_kwh or 0.0) - cpu - gpu - ram, reading.co2eq_kg or 0.0)


def gpu_parts(
    seconds: Mapping[str, Mapping[int, float]], drawn: Mapping[str, float], by_cpu: Mapping[int, float]
) -> dict[int, float]:
    """Each worker's part of what GPUs drew; the parts sum to 1.

    Args:
        seconds: of each GPU, that were given to trials of each worker; none where no trial held a GPU.
        drawn: what each GPU drew, in any unit, as far as that is known.
        by_cpu: each worker's part of what CPU and RAM drew.
    """
    parts = dict.fromkeys(by_cpu, 0.0)
    held = {gpu: {worker: of[worker] for worker in of.keys() & by_cpu.keys()} for gpu, of in seconds.items()}
    held = {gpu: of for gpu, of in held.items() if of}
    if not held:
        return dict(by_cpu)
    weights = {gpu: sum(of.values()) for gpu, of in held.items()}
    if held.keys() <= drawn.keys():  # each is paid for by those who held it
        weights = {gpu: drawn[gpu] for gpu in held}
    for gpu, weight in fractions(weights).items():
        for worker, part in fractions(held[gpu]).items():
            parts[worker] += weight * part
    return parts
