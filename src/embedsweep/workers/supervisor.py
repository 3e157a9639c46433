"""The supervisor: worker processes on this machine, sent to work, listened to, started again, and ended.

Owns the processes and what is said of them. Knows nothing of what they do, beyond what they tell the display.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from queue import Empty

from embedsweep.console import Display
from embedsweep.emissions.sharing import SharedEmissions
from embedsweep.errors import Interrupted, WorkerError
from embedsweep.signals import shielded
from embedsweep.workers.child import WorkerPool, WorkerProcess
from embedsweep.workers.job import Event, Job, show

GRACE_S = 30.0
"""How long workers may take to give their trials up; a second signal ends them at once."""
FAILED_STARTS = 2
WAIT_S = 1.0
"""For the next event: a signal that comes just before the wait is heeded at its end only."""


class Supervisor:
    """Keeps workers running while there are trials for them.

    Args:
        crew: the workers, started and waiting.
        job: what every worker is told, but for its number and the time that is left.
        max_restarts: how often a worker that died is started again, in all.
        silence: seconds without a word from a worker after which it is killed; None waits for ever.
        deadline: the moment of the monotonic clock after which no trial is begun; None has no limit.
        n_left: tells how many trials nobody runs.
        emissions: shares out what the machine draws.
        display: where people see what the workers tell.
    """

    def __init__(
        self,
        crew: WorkerPool,
        job: Job,
        max_restarts: int,
        silence: float | None,
        deadline: float | None,
        n_left: Callable[[], int],
        emissions: SharedEmissions,
        display: Display,
    ) -> None:
        self._crew = crew
        self._job = job
        self._max_restarts = max_restarts
        self._silence = silence
        self._watched = time.monotonic()
        self._deadline = deadline
        self._n_left = n_left
        self._emissions = emissions
        self._display = display
        self._said: set[str] = set()
        self._restarts = 0
        self._failed_starts = 0
        self._has_begun = False
        self._gave_up = ""

    def run(self) -> None:
        """Sends the workers to work and returns when all have ended.

        Raises:
            Interrupted: a signal came; the workers gave their trials up.
            WorkerError: workers cannot start or died too often, and trials are left; or something ails all trials.
        """
        try:
            for child in self._crew.children:
                self._send(child)
            while self._crew.children:
                with suppress(Empty):
                    self._heed(*self._crew.told.get(timeout=WAIT_S))
                self._watch()
        finally:
            self._end_all()
        if self._gave_up and self._is_work_left():
            raise WorkerError(f"{self._gave_up}; the same command goes on with the trials that are left")

    def _is_work_left(self) -> bool:
        return (self._deadline is None or time.monotonic() < self._deadline) and self._n_left() > 0

    def _send(self, child: WorkerProcess) -> None:
        seconds = max(0.0, self._deadline - time.monotonic()) if self._deadline is not None else None
        with shielded():
            self._emissions.add(child.number, child.pid)
            child.send(replace(self._job, number=child.number, seconds=seconds))

    def _heed(self, child: WorkerProcess, event: Event | None) -> None:
        if event is None:
            if child in self._crew.children:
                self._forget(child)
                self._judge(child)
            return
        self._show(child, event)

    def _watch(self) -> None:
        """Kills a worker that hangs, so that its trial is begun again.

        One at a time: others may be silent because they wait for a lock that it holds, and get some time to go on.
        """
        now = time.monotonic()
        # Where this process itself stood still (Ctrl-Z, a machine that slept), nobody was silent for it.
        passed, self._watched = min(now - self._watched, 2 * WAIT_S), now
        for child in self._crew.children:
            child.silent_s += passed
        longest = max(self._crew.children, key=lambda child: child.silent_s, default=None)
        if longest is None or self._silence is None or longest.silent_s <= self._silence:
            return
        longest.kill(f"made no progress for {self._silence:g} s (workers.silence) and was killed")
        longest.silent_s = 0.0
        for child in self._crew.children:
            child.silent_s = min(child.silent_s, self._silence / 2)

    def _show(self, child: WorkerProcess, event: Event) -> None:
        child.silent_s = 0.0
        if event.name == "outage":
            child.outage = str(event.arguments[0])
            return
        if event.name == "say":
            # What one worker says of the data, all do.
            if event.arguments[0] in self._said:
                return
            self._said.add(event.arguments[0])
        elif event.name == "begin":
            self._take_from_others(event.arguments[0])
            child.trial, child.has_begun = event.arguments[0], True
            self._has_begun, self._failed_starts = True, 0
        elif event.arguments[0] != child.trial:
            return  # the trial is another worker's by now
        elif event.name == "end":
            child.trial = None
        show(event, self._display)

    def _take_from_others(self, trial: str) -> None:
        """A worker may take a dead one's trial up before it is heard here that it died."""
        for other in self._crew.children:
            if other.trial == trial:
                self._lose(other)

    def _lose(self, child: WorkerProcess) -> None:
        assert child.trial is not None
        self._display.end(child.trial, "RUNNING", None, "its worker died; it will be gone on with")
        child.trial = None

    def _forget(self, child: WorkerProcess) -> None:
        self._crew.remove(child)
        self._emissions.remove(child.number)
        if child.trial is not None:
            self._lose(child)

    def _judge(self, child: WorkerProcess) -> None:
        """What follows from the end of a worker that nobody ended: nothing, another start, or the end of all."""
        if child.code == 0:
            return
        if child.outage is not None:
            raise WorkerError(child.outage)
        number, reason = child.number, child.reason()
        self._failed_starts += not child.has_begun
        if self._failed_starts == FAILED_STARTS and not self._has_begun:
            raise WorkerError(f"workers cannot start; worker {number} {reason}")
        self._display.say(f"worker {number} {reason}")
        if not self._is_work_left():
            return
        if self._restarts == self._max_restarts:
            times = f"{self._max_restarts} time{'s' if self._max_restarts != 1 else ''}"
            self._gave_up = (
                f"worker {number} died and is not started again, as workers were {times} (workers.max_restarts)"
            )
            self._display.say(self._gave_up)
            return
        self._restarts += 1
        self._display.say(f"worker {number} is started again ({self._restarts} of {self._max_restarts} times)")
        self._send(self._crew.start(number))

    def _end_all(self) -> None:
        """Ends the workers that still run: they give their trials up, if there is time for that."""
        try:
            for child in self._crew.children:
                child.send_signal(signal.SIGTERM)
            self._hear_out(time.monotonic() + GRACE_S)
        except Interrupted:
            self._display.say("interrupted again: workers are killed")
        with shielded():
            for child in self._crew.children:
                child.send_signal(signal.SIGKILL)
            self._hear_out(time.monotonic() + GRACE_S)

    def _hear_out(self, until: float) -> None:
        """Shows what workers that were ended still tell, until all have ended or the moment has come."""
        while self._crew.children and (left := until - time.monotonic()) > 0:
            try:
                child, event = self._crew.told.get(timeout=min(left, WAIT_S))
            except Empty:
                ended = [child for child in self._crew.children if child.code is not None]
            else:
                if event is not None:
                    self._show(child, event)
                    continue
                ended = [child]
            for child in ended:
                if child in self._crew.children:
                    self._forget(child)
