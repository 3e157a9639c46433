"""The meter of one attempt, which keeps its row of the trial's ``emissions.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from embedsweep.config.result import Emissions
from embedsweep.config.study import EmissionsConfig
from embedsweep.emissions.rows import COLUMNS, WORLD_AVERAGE, Row, read_rows, sum_rows, write_rows
from embedsweep.emissions.share import Portion
from embedsweep.emissions.tracker import Reading, Tracker


class EmissionsMeter:
    """Measures one attempt of a trial and keeps its row of the trial's ``emissions.csv``.

    As a context manager it stops on any exception: a tracker left running keeps two threads. Nothing here raises
    because something could not be measured; that is said in ``unmeasured`` instead.

    Args:
        config: where the electricity comes from.
        path: the trial's ``emissions.csv``; its earlier rows are kept.
        share: the file with this worker's share, where the machine is measured for several at once (`SharedEmissions`);
            None measures here.
        gpus: names, as in ``CUDA_VISIBLE_DEVICES``, of the GPUs that the trial holds; none on a CPU.
    """

    def __init__(
        self, config: EmissionsConfig, path: Path, share: Path | None = None, gpus: Sequence[str] = ()
    ) -> None:
        self._country_iso_code = config.country_iso_code
        self._gpus = gpus
        self._share = share
        self._path = path
        self._earlier: list[Row] = []
        self._row: Row | None = None
        self._tracker: Tracker | Portion | None = None
        self._write_problem: tuple[str, ...] = ()

    def start(self) -> None:
        """Begins the attempt: its row, still of next to nothing, is written.

        Raises:
            RuntimeError: this meter was started before; an attempt has a meter of its own.
        """
        if self._row is not None:
            raise RuntimeError("this EmissionsMeter was started before; every attempt needs its own")
        self._earlier = read_rows(self._path)
        attempt = 1 + max((int(row["attempt"]) for row in self._earlier), default=0)
        self._row = dict.fromkeys(COLUMNS, "") | {
            "attempt": str(attempt),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "country": self._country,
        }
        if self._share is None:
            self._tracker = Tracker(self._country_iso_code, self._gpus)
        else:
            self._tracker = Portion(self._share, self._gpus)
        try:
            self._tracker.start()
            self.flush()
        except BaseException:
            # A signal that arrives here never reaches __exit__, and the tracker's threads would live on.
            self._tracker.stop()
            self._tracker = None
            raise

    def flush(self) -> None:
        """Measures now and rewrites this attempt's row, so that it counts up to here if the process is killed.

        Raises:
            RuntimeError: the meter is not running.
        """
        if self._tracker is None:
            raise RuntimeError("an EmissionsMeter can only be flushed between start and stop")
        self._record(self._tracker.read(), f"attempt {self._own['attempt']} counted up to its last flush")

    def stop(self) -> Emissions:
        """Ends the attempt; a second call changes nothing.

        Returns:
            The sum of all attempts, as `total`.
        """
        if self._tracker is not None:
            reading = self._tracker.stop()
            self._tracker = None
            self._record(reading)
        return self.total()

    def total(self) -> Emissions:
        """The sum of all attempts in the file, this meter's included, up to its last flush."""
        if self._row is None:
            return sum_rows(read_rows(self._path), self._country)
        total = sum_rows([*self._earlier, self._row], self._country)
        return replace(total, unmeasured=total.unmeasured + self._write_problem)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _country(self) -> str:
        return self._country_iso_code or WORLD_AVERAGE

    @property
    def _own(self) -> Row:
        assert self._row is not None
        return self._row

    def _record(self, reading: Reading, *remarks: str) -> None:
        if self._share is None and self._gpus:  # it has them to itself
            reading = replace(reading, gpu_h=len(self._gpus) * reading.duration_s / 3600)
        self._row = self._own | reading.cells() | {"unmeasured": "; ".join((*reading.unmeasured, *remarks))}
        try:
            write_rows(self._path, [*self._earlier, self._row])
        except OSError as error:
            # A full disk may end the training, but not for the sake of this file.
            self._write_problem = (f"{self._path.name} could not be written ({error.strerror})",)
        else:
            self._write_problem = ()
