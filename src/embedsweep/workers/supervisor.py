"""The supervisor of worker processes, here or elsewhere: starts them, shows their events, restarts and ends them."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from embedsweep.config.workers import WorkersConfig
from embedsweep.console import FINISHED, Display
from embedsweep.errors import Interrupted, WorkerError
from embedsweep.signals import shielded
from embedsweep.workers.job import ALIVE, OUTAGE, Event, Job, show
from embedsweep.workers.pool import Meter, Pool, WorkerProcess

KILLED_S = 30.0
"""Seconds for which workers that were killed are waited for."""

FAILED_STARTS = 2
"""Workers that end before any has started a trial; after these the command gives up."""

WAIT_S = 1.0
"""Seconds to wait for the next event, and so the longest delay of a signal; see `ProcessPool.receive`."""

FILL_EVERY_S = 5.0
"""Seconds between two looks at the storage for trials that machines with room could run."""


@dataclass
class _State:
    """What the supervisor knows of one worker.

    Attributes:
        trial: the label of the trial that it runs; None while it runs none.
        has_started: whether it has started a trial.
        restarts: how often it was restarted since it got a trial further.
        outage: a problem that affects all trials, as the worker reported it.
        silent_s: seconds since its last event.
    """

    trial: str | None = None
    has_started: bool = False
    restarts: int = 0
    outage: str | None = None
    silent_s: float = 0.0


@dataclass(eq=False)
class Supervisor:
    """Keeps workers running while there are trials for them.

    Attributes:
        pool: the workers, started and waiting for their job.
        job: the job of every worker, but for its number and the time that is left.
        workers: how often a worker is restarted without progress; after how many seconds without an event it is killed.
        deadline: time of the monotonic clock after which no trial is started; None for no limit.
        n_left: returns the number of trials that are left and that no process runs.
        emissions: measures the machines and splits their energy between the workers.
        display: shows the workers' events.
        after_trial: is called after each end of a trial.
    """

    pool: Pool
    job: Job
    workers: WorkersConfig
    deadline: float | None
    n_left: Callable[[], int]
    emissions: Meter
    display: Display
    after_trial: Callable[[], None] = lambda: None
    # A signal may come between a worker's start and its job: it has a state from its first use on.
    _states: dict[int, _State] = field(default_factory=lambda: defaultdict(_State), init=False)
    _checked_at: float = field(default_factory=time.monotonic, init=False)
    _shown_lines: set[str] = field(default_factory=set, init=False)
    _failed_starts: int = field(default=0, init=False)
    _has_started: bool = field(default=False, init=False)
    _gave_up: str = field(default="", init=False)
    _filled_at: float = field(default_factory=time.monotonic, init=False)
    _said_waiting: str = field(default="", init=False)

    def run(self) -> None:
        """Send the workers their job and return when all have ended.

        Raises:
            Interrupted: a signal came; the workers released their trials.
            WorkerError: trials are left, and workers cannot start or died too often; or a problem affects all trials.
        """
        try:
            while self._has_workers():
                if (received := self.pool.receive(WAIT_S)) is not None:
                    worker, event = received
                    if event is not None:
                        self._show(worker, event)
                    else:
                        self._handle_end(worker)
                self._kill_hung_worker()
                self._start_more()
        finally:
            self._end_all()
        if self._gave_up and self._is_work_left():
            raise WorkerError(f"{self._gave_up}; the same command resumes the study with the trials that are left")

    def _has_workers(self) -> bool:
        """Send workers that have started their job; return whether any runs, or will once a machine has room for it."""
        for line in self.pool.take_lines():
            self.display.say(line)
        for worker in self.pool.take_started():
            self._send_job(worker)
        if self.pool.processes:
            return True
        if not self.pool.is_starting or not self._is_work_left():
            return False
        if (waits_for := self.pool.waits_for) != self._said_waiting:
            self._said_waiting = waits_for
            if waits_for:
                self.display.say(waits_for)
        return True

    def _start_more(self) -> None:
        """Start workers on machines that have room, for trials that no worker runs or will soon begin."""
        now = time.monotonic()
        if now - self._filled_at < FILL_EVERY_S or not (room := self.pool.room) or self.pool.is_starting:
            return
        self._filled_at = now
        if self._is_work_left():
            idle = sum(self._states[worker.number].trial is None for worker in self.pool.processes)
            self.pool.start_more(max(0, min(room, self.n_left() - idle)))

    def _is_work_left(self) -> bool:
        return (self.deadline is None or time.monotonic() < self.deadline) and self.n_left() > 0

    def _send_job(self, worker: WorkerProcess) -> None:
        seconds = max(0.0, self.deadline - time.monotonic()) if self.deadline is not None else None
        with shielded():
            self._states[worker.number].silent_s = 0.0  # it may have waited long for a machine with room
            self.emissions.add(worker.number, worker.pid)
            worker.send(replace(self.job, number=worker.number, seconds=seconds))

    def _kill_hung_worker(self) -> None:
        """Kill a worker that hangs, so that its trial is resumed by another.

        One at a time: others may be silent because they wait for a lock that it holds, and get time to continue.
        """
        silence = self.workers.silence
        now = time.monotonic()
        # If this process itself stood still (Ctrl-Z, a machine that slept), no worker was silent in that time.
        passed, self._checked_at = min(now - self._checked_at, 2 * WAIT_S), now
        for state in self._states.values():
            state.silent_s += passed
        worker = max(self.pool.processes, key=lambda each: self._states[each.number].silent_s, default=None)
        if worker is None or silence is None or self._states[worker.number].silent_s <= silence:
            return
        worker.kill(f"made no progress for {silence:g} s (workers.silence) and was killed")
        for state in self._states.values():
            state.silent_s = min(state.silent_s, silence / 2)
        self._states[worker.number].silent_s = 0.0

    def _show(self, worker: WorkerProcess, event: Event) -> None:
        state = self._states[worker.number]
        state.silent_s = 0.0
        if event == (ALIVE,):
            return
        name, argument, *_ = event
        if name == OUTAGE:
            state.outage = str(argument)
            return
        if name == "say":
            # All workers report the same about the data; it is shown once.
            if argument in self._shown_lines:
                return
            self._shown_lines.add(argument)
        elif name == "begin":
            self._report_lost(argument)
            state.trial, state.has_started = argument, True
            self._has_started, self._failed_starts = True, 0
        elif argument != state.trial:
            return  # another worker runs the trial by now
        elif name == "end":
            state.trial = None
        if name == "score" or (name == "end" and event[2] in FINISHED):
            state.restarts = 0
        show(event, self.display)
        if name == "end":
            self.after_trial()

    def _report_lost(self, trial: str | None) -> None:
        """Show that the worker which ran a trial died; another may resume it before its end is received here."""
        for state in self._states.values():
            if trial is not None and state.trial == trial:
                self.display.end(trial, "WAITING", None, "its worker died; the trial will be resumed")
                state.trial = None

    def _remove(self, worker: WorkerProcess) -> _State:
        self.pool.remove(worker)
        self.emissions.remove(worker.number)
        state = self._states[worker.number]
        self._report_lost(state.trial)
        return self._states.pop(worker.number)

    def _handle_end(self, worker: WorkerProcess) -> None:
        """Remove a worker that ended by itself; restart it, or end the command, where it failed."""
        state = self._remove(worker)
        if worker.exit_code == 0:
            return
        if state.outage is not None:
            raise WorkerError(state.outage)
        number, reason = worker.number, worker.describe_end()
        if worker.is_lost:
            self._replace_lost(number, reason, state)
            return
        self._failed_starts += not state.has_started
        if self._failed_starts == FAILED_STARTS and not self._has_started:
            raise WorkerError(f"workers cannot start; worker {number} {reason}")
        self.display.say(f"worker {number} {reason}")
        if not self._is_work_left():
            return
        limit = self.workers.max_restarts
        if state.restarts >= limit:
            self._gave_up = f"worker {number} died and is not restarted, as workers.max_restarts={limit} is reached"
            self.display.say(self._gave_up)
            return
        self._states[number].restarts = state.restarts + 1
        self.display.say(f"worker {number} is restarted ({state.restarts + 1}/{limit})")
        self.pool.start_worker(number)

    def _replace_lost(self, number: int, reason: str, state: _State) -> None:
        """Start a worker again whose machine is gone, wherever there is room; that is none of its restarts."""
        self.display.say(f"worker {number} {reason}")
        if self._is_work_left():
            self._states[number].restarts = state.restarts
            self.pool.start_worker(number)

    def _end_all(self) -> None:
        """End the workers that still run; they release their trials, if there is time for that."""
        try:
            for worker in self.pool.processes:
                worker.send_signal(signal.SIGTERM)
            self._show_last_events(time.monotonic() + self.job.release_s)  # a second signal ends them at once
        except Interrupted:
            self.display.say("interrupted again: workers are killed")
        with shielded():
            for worker in self.pool.processes:
                worker.kill()
            self._show_last_events(time.monotonic() + KILLED_S)

    def _show_last_events(self, deadline: float) -> None:
        """Show the events of workers that were told to end, until all have ended or the deadline has passed."""
        while self.pool.processes and (left := deadline - time.monotonic()) > 0:
            received = self.pool.receive(min(left, WAIT_S))
            if received is None:
                for worker in [each for each in self.pool.processes if each.exit_code is not None]:
                    self._remove(worker)
            elif received[1] is not None:
                self._show(*received)
            else:
                self._remove(received[0])
