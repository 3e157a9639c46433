"""Measure one attempt of a trial and record it as a row of the trial's ``emissions.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from embedsweep.config.result import Emissions
from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions.allocation import AllocationTracker
from embedsweep.emissions.rows import COLUMNS, WORLD_AVERAGE, Row, read_rows, sum_rows, write_rows
from embedsweep.emissions.tracker import EnergyTracker, Reading


class EmissionsMeter:
    """Measures one attempt of a trial and keeps its row of the trial's ``emissions.csv`` up to date.

    As a context manager it stops on any exception, because a running tracker has two threads. Nothing here raises
    because something could not be measured; ``unmeasured`` describes that instead.

    Args:
        config: the country whose electricity is used.
        path: the trial's ``emissions.csv``; its earlier rows are kept.
        allocation: the file with this worker's allocation, if the machine is measured for several workers at once
            (`MachineEmissions`); None measures in this process.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the trial holds; empty on a CPU.
    """

    def __init__(
        self, config: EmissionsConfig, path: Path, allocation: Path | None = None, gpus: Sequence[str] = ()
    ) -> None:
        self._country_iso_code = config.country_iso_code
        self._country = config.country_iso_code or WORLD_AVERAGE
        self._gpus = gpus
        self._allocation = allocation
        self._path = path
        self._earlier: list[Row] = []
        self._row: Row = {}  # empty until the attempt starts
        self._tracker: EnergyTracker | AllocationTracker | None = None
        self._write_problem: tuple[str, ...] = ()

    def start(self) -> None:
        """Start the attempt and write its first row.

        Raises:
            RuntimeError: this meter was started before; every attempt needs its own.
        """
        if self._row:
            raise RuntimeError("this EmissionsMeter was started before; every attempt needs its own")
        self._earlier = read_rows(self._path)
        attempt = 1 + max((int(row["attempt"]) for row in self._earlier), default=0)
        self._row = dict.fromkeys(COLUMNS, "") | {
            "attempt": str(attempt),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "country": self._country,
        }
        if self._allocation is None:
            self._tracker = EnergyTracker(self._country_iso_code, self._gpus)
        else:
            self._tracker = AllocationTracker(self._allocation, self._gpus)
        try:
            self._tracker.start()
            self.flush()
        except BaseException:
            # A signal that arrives here never reaches __exit__, and the tracker's threads would live on.
            self._tracker.stop()
            self._tracker = None
            raise

    def flush(self) -> None:
        """Measure now and rewrite this attempt's row, so that it counts up to here if the process is killed.

        Raises:
            RuntimeError: the meter is not running.
        """
        if self._tracker is None:
            raise RuntimeError("an EmissionsMeter can only be flushed between start and stop")
        self._record(self._tracker.read(), f"attempt {self._row['attempt']} counted up to its last flush")

    def stop(self) -> Emissions:
        """End the attempt and return the sum of all attempts, as `total`; a second call changes nothing."""
        if self._tracker is not None:
            reading = self._tracker.stop()
            self._tracker = None
            self._record(reading)
        return self.total()

    def total(self) -> Emissions:
        """Return the sum of all attempts in the file, including this meter's up to its last flush."""
        if not self._row:
            return sum_rows(read_rows(self._path), self._country)
        total = sum_rows([*self._earlier, self._row], self._country)
        return replace(total, unmeasured=total.unmeasured + self._write_problem)

    def attempt(self) -> Emissions:
        """Return what this attempt cost, up to its last flush."""
        return sum_rows([self._row] if self._row else [], self._country)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _record(self, reading: Reading, *remarks: str) -> None:
        if self._allocation is None and self._gpus:  # the trial has them to itself
            reading = replace(reading, gpu_h=len(self._gpus) * reading.duration_s / 3600)
        self._row = self._row | reading.cells() | {"unmeasured": "; ".join((*reading.unmeasured, *remarks))}
        try:
            write_rows(self._path, [*self._earlier, self._row])
        except OSError as error:
            # A full disk may end the training, but not because of this file.
            self._write_problem = (f"{self._path.name} could not be written ({error.strerror})",)
        else:
            self._write_problem = ()
