"""A single run: train one configuration without a study, in ``sweeps/single/<run id>``, or resume an earlier one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from embedsweep.config.identity import config_hash
from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.console import Display, OutputStyle, say
from embedsweep.data.load import load_also, load_splits
from embedsweep.errors import ConfigError, Interrupted, UnreachableError
from embedsweep.files import MODEL, SINGLE, SINGLE_RUNS
from embedsweep.report.lines import JsonLines
from embedsweep.report.live import TrialDisplay, make_display, shown
from embedsweep.report.ranking import print_single, print_ui
from embedsweep.report.running import RunningTrials
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.tracking.names import option_tags, run_name
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.tracking.view import VIEW_TAG, single_view
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.curve import points_of
from embedsweep.training.data import corpora, data_warnings
from embedsweep.training.folder import read_result
from embedsweep.training.group import TrainingGroup
from embedsweep.training.steps import training_warnings
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.validation.resume import EarlierRun, alone_in, copy_training
from embedsweep.validation.single import SingleRun

RESUMED_FROM = "embedsweep.resumed_from"


@dataclass(frozen=True)
class EndedRun:
    """How a run ended.

    Attributes:
        run_id: the id of its MLflow run.
        folder: its folder.
        config: its configuration.
        result: its result; None if it failed.
        failure: why it failed, or could not be recorded; None if neither.
    """

    run_id: str
    folder: Path
    config: TrialConfig
    result: TrialResult | None
    failure: str | None = None


def run_single(
    request: SingleRun, console: Console, program: str, group: TrainingGroup | None, style: OutputStyle = "lines"
) -> EndedRun:
    """Train one configuration, record it in the experiment ``single`` and print the result.

    With ``resume``, an earlier run is continued: in its own MLflow run and folder if its configuration is unchanged,
    else as a new run from a copy of its checkpoints. If it is complete, its result is printed.

    Returns:
        The run; if it failed, or MLflow's store refuses a record of it, the reason is printed, too.

    Raises:
        ConfigError: another process runs the earlier run, it is recorded elsewhere, or its data has changed.
        Interrupted: a signal came; the run is marked KILLED.
        TrackingError: the run cannot be recorded.
    """
    display = make_display(console, style, RunningTrials(), "run")
    with Tracker(request.tracking, display.say) as tracker:
        ended = _Run(request, tracker, display, console, program, group).run()
    for reason in tracker.refusals().values():
        refusal = f"MLflow's store refuses a record of this run: {reason}. It is kept with those after it"
        display.say(refusal)
        ended = replace(ended, failure=ended.failure or refusal)
    return ended


@dataclass(frozen=True)
class _Run:
    """One command's run.

    Attributes:
        request: the validated command.
        tracker: writes to MLflow.
        display: shows the run and messages.
        console: where the result is printed.
        program: how this program was started.
        group: the processes that train the run together; None trains in this one.
    """

    request: SingleRun
    tracker: Tracker
    display: TrialDisplay
    console: Console
    program: str
    group: TrainingGroup | None

    @property
    def continued(self) -> EarlierRun | None:
        """The earlier run whose MLflow run and folder are used; None starts new ones."""
        resumed = self.request.resumed
        return resumed.run if resumed is not None and not resumed.is_changed else None

    def run(self) -> EndedRun:
        """Train, record and print the result."""
        request, tracker, continued = self.request, self.tracker, self.continued
        with ExitStack() as stack:
            if request.resumed is not None:
                earlier = request.resumed.run
                stack.enter_context(alone_in(earlier.folder))
                if continued is not None and (done := read_result(earlier.folder)) is not None:
                    self._finish_complete(earlier.run_id)
                    self.display.say(f"run {earlier.run_id[:8]} is complete")
                    self._print_result(done, earlier.folder, earlier.run_id)
                    return EndedRun(earlier.run_id, earlier.folder, earlier.config, done)
                _check_recorded(request, earlier, tracker)
            with shielded():
                run = self._open_run()
            folder = continued.folder if continued is not None else SINGLE_RUNS / run.run_id
            if continued is None:
                stack.enter_context(alone_in(folder))
            ended = self._train(folder, run)
        if ended.result is None:
            return ended
        self._print_result(ended.result, folder, run.run_id)
        if not isinstance(self.display, JsonLines):
            megabytes = Checkpoints(folder / CHECKPOINTS).size / 1e6
            more = "trainer.epochs=N" if request.config.trainer.max_steps is None else "trainer.max_steps=N"
            say(self.console, f"train further: {self._resume_command(run)} {more} ({megabytes:.3g} MB of checkpoints)")
            print_ui(self.console, tracker.ui_hint(SINGLE), self.program)
        return ended

    def _print_result(self, result: TrialResult, folder: Path, run_id: str) -> None:
        objective = self.request.config.objective
        if isinstance(self.display, JsonLines):
            scores = {"value": result.objective, "dev": result.dev, "test": result.test, "before": result.before}
            places = {"model": str(folder / MODEL), "log": str(folder / "train.log")}
            self.display.emit("result", run=run_id[:8], run_id=run_id, objective=objective, **scores, **places)
        else:
            print_single(self.console, result, folder, self.request.config)

    def _open_run(self) -> TrialTracker:
        config, resumed = self.request.config, self.request.resumed
        run = self.tracker.trial_run(
            SINGLE,
            0,
            config,
            config_hash(config),
            run_id=self.continued.run_id if self.continued is not None else None,
            run_name=_run_name(self.request),
            tags=option_tags(self.request.options)
            | ({RESUMED_FROM: resumed.run.run_id} if resumed is not None else {}),
        )
        run.set_experiment_tags({VIEW_TAG: single_view(config.objective)})
        return run

    def _finish_complete(self, run_id: str) -> None:
        """End the MLflow run of a run that was killed between its result and its end."""
        try:
            recorded = self.tracker.recorded(run_id)
            is_open = recorded is not None and recorded.state != "COMPLETE"
        except UnreachableError:
            is_open = True  # unknown; nothing is written twice
        if is_open:
            self._open_run().finish("COMPLETE")

    def _train(self, folder: Path, run: TrialTracker) -> EndedRun:
        """Train and end the run; if it fails, print and record the reason."""
        request, config, label = self.request, self.request.config, run.run_id[:8]
        display = self.display
        with shown(display):

            def report(_: int, metrics: Mapping[str, float]) -> Decision:
                display.score(label, metrics[config.objective])
                return Decision.CONTINUE

            progress = partial(display.progress, label)
            try:
                _show_start(request, label, display)
                if request.resumed is not None and request.resumed.is_changed:
                    copy_training(request.resumed.run, folder)
                    run.log_history(points_of(request.resumed.run.state["log_history"]))
                setup = TrialSetup(
                    config, folder, run, report, progress, request.emissions, single=True, group=self.group
                )
                result = run_trial(setup)
            except (Interrupted, KeyboardInterrupt):
                with shielded():
                    run.finish("RUNNING")
                    place = Checkpoints(folder / CHECKPOINTS).place
                    display.end(label, "WAITING", None, f"interrupted; {self._resume_command(run)} resumes it {place}")
                raise
            except Exception as error:
                reason = redact(f"{type(error).__name__}: {error}")
                display.end(label, "FAIL", None, reason)
                with shielded():
                    run.set_tags({"embedsweep.failure": reason})
                    run.finish("FAIL")
                display.say(f"log: {folder / 'train.log'}")
                if (step := Checkpoints(folder / CHECKPOINTS).last_whole()) is not None:
                    display.say(f"resume from step {step}: {self._resume_command(run)}")
                return EndedRun(run.run_id, folder, config, None, reason)
            with shielded():
                run.finish("COMPLETE")
                display.end(label, "COMPLETE", result.objective, "")
        return EndedRun(run.run_id, folder, config, result)

    def _resume_command(self, run: TrialTracker) -> str:
        folder = self.continued.folder if self.continued is not None else None
        elsewhere = folder is not None and folder.resolve().parent != SINGLE_RUNS.resolve()
        name = shlex.quote(str(folder)) if elsewhere else run.run_id[:8]
        overrides = (shlex.quote(redact(word)) for word in self.request.service_overrides)
        return " ".join((self.program, f"resume={name}", *overrides))


def _check_recorded(request: SingleRun, earlier: EarlierRun, tracker: Tracker) -> None:
    """Raise ConfigError unless this store has the earlier run with the folder's configuration and the present data."""
    label = earlier.run_id[:8]
    try:
        recorded = tracker.recorded(earlier.run_id)
    except UnreachableError:
        return  # the replay refuses a run with another configuration
    if recorded is None:
        message = f"does not hold run {label}: give the one it was recorded in"
        raise ConfigError.single("tracking.uri", message)
    if recorded.config_hash != config_hash(earlier.config):
        path = earlier.folder / "config.yaml"
        message = f"{path} is not the configuration that run {label} was started with: start a new run"
        raise ConfigError.single("resume", message)
    data = request.config.data
    # Those below older versions did not record.
    further = {examples.digest for examples in load_also(data).values()} | {each.digest for _, each in corpora(data)}
    if not recorded.data_digests <= {load_splits(data, request.config.evaluation).digest, *further}:
        message = f"has changed since run {label} was trained on it: start a new run"
        raise ConfigError.single("data", message)


def _run_name(request: SingleRun) -> str:
    """Return the run's name: what differs from the defaults, or from the run that it continues."""
    named = request.options if request.resumed is None else _shown_options(request, "loss", "model")
    words = run_name({**named, **request.changed}, named)
    return words or " ".join(_shown_options(request, "loss", "model").values())


def _shown_options(request: SingleRun, *sections: str) -> dict[str, str]:
    """Return the options of sections by which people know the run: the chosen ones, else the names in them."""
    return {each: request.options.get(each) or str(getattr(request.config, each).name) for each in sections}


def _show_start(request: SingleRun, label: str, display: Display) -> None:
    config, resumed = request.config, request.resumed
    note = ""
    if resumed is not None:
        step = resumed.run.last_step or 0
        note = f"from step {step}" + (f" of {resumed.run.run_id[:8]}" if resumed.is_changed else "")
    display.begin(label, _shown_options(request, "loss", "model", "data"), note, 0)
    for line in data_warnings(config):
        display.say(f"data: {line}")
    for line in training_warnings(config):
        display.say(line)
    if config.rungs:
        display.say("nothing prunes a run by itself: study.pruner only adds evaluations at study.pruning.rungs")
