"""A single run: one trial without a study, begun anew or gone on with.

Owns which MLflow run and which folder, ``sweeps/single/<run id>``, it has, and how it ends.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from embedsweep.config.identity import config_hash
from embedsweep.config.result import Decision, TrialResult
from embedsweep.console import Display, open_display, say
from embedsweep.data import load_splits
from embedsweep.errors import ConfigError, Interrupted, UnreachableError
from embedsweep.files import SINGLE, SINGLE_RUNS
from embedsweep.report.ranking import print_single, print_ui
from embedsweep.secrets import redact
from embedsweep.signals import shielded
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.data import data_warnings
from embedsweep.training.folder import read_result
from embedsweep.training.group import TrainingGroup
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.validation.resume import EarlierRun, alone_in, copy_training, history_of
from embedsweep.validation.single import SingleRun

RESUMED_FROM = "embedsweep.resumed_from"


def run_single(asked: SingleRun, console: Console, program: str, group: TrainingGroup | None) -> int:
    """Runs one configuration, records it in the experiment ``single`` and prints what came of it.

    An earlier run that is resumed unchanged goes on in its own MLflow run and folder; changed, as a new run from a
    copy of its checkpoints. One that is complete is only told.

    Returns:
        0, or 1 where the run failed; the reason is printed and recorded.

    Raises:
        ConfigError: the earlier run is under way elsewhere, recorded elsewhere, or its data has changed.
        Interrupted: a signal came; the run is marked KILLED.
        TrackingError: the run cannot be recorded.
    """
    tracker = Tracker(asked.tracking, lambda line: say(console, line))
    try:
        return _run_recorded(asked, tracker, console, program, group)
    finally:
        tracker.close()


def _run_recorded(
    asked: SingleRun, tracker: Tracker, console: Console, program: str, group: TrainingGroup | None
) -> int:
    earlier = asked.resumed.run if asked.resumed is not None else None
    goes_on = asked.resumed is not None and not asked.resumed.is_changed
    with ExitStack() as held:
        if earlier is not None:
            held.enter_context(alone_in(earlier.folder))
            if goes_on and (done := read_result(earlier.folder)) is not None:
                _finish_complete(asked, earlier, tracker)
                console.print(f"run {earlier.run_id[:8]} is complete", highlight=False)
                print_single(console, done, earlier.folder)
                return 0
            _check_recorded(asked, earlier, tracker)
        with shielded():
            run = _open_run(asked, tracker)
        folder = earlier.folder if goes_on and earlier is not None else SINGLE_RUNS / run.run_id
        if not goes_on:
            held.enter_context(alone_in(folder))
        result = _run(asked, folder, run, console, program, group)
    if result is None:
        return 1
    print_single(console, result, folder)
    megabytes = Checkpoints(folder / CHECKPOINTS).size / 1e6
    more = "trainer.epochs=N" if asked.config.trainer.max_steps is None else "trainer.max_steps=N"
    say(console, f"train on: {_command(asked, run, program)} {more} ({megabytes:.3g} MB of checkpoints)")
    print_ui(console, tracker.ui_hint(), program)
    return 0


def _open_run(asked: SingleRun, tracker: Tracker) -> TrialTracker:
    config, resumed = asked.config, asked.resumed
    return tracker.trial_run(
        SINGLE,
        0,
        config,
        config_hash(config),
        run_id=resumed.run.run_id if resumed is not None and not resumed.is_changed else None,
        run_name=f"{config.loss.name} {config.model.name}",
        tags={RESUMED_FROM: resumed.run.run_id} if resumed is not None else None,
    )


def _check_recorded(asked: SingleRun, earlier: EarlierRun, tracker: Tracker) -> None:
    """Raises unless this store knows the earlier run as what its folder says, on the data that is there now."""
    label = earlier.run_id[:8]
    try:
        recorded = tracker.recorded(earlier.run_id)
    except UnreachableError:
        return  # a replay refuses another configuration
    if recorded is None:
        message = f"does not hold run {label}: give the one it was recorded in"
        raise ConfigError.single("tracking.uri", message)
    if recorded.config_hash != config_hash(earlier.config):
        message = f"{earlier.folder / 'config.yaml'} is not what run {label} was begun with: start a new run"
        raise ConfigError.single("resume", message)
    digest = load_splits(asked.config.data, asked.config.evaluation).digest
    if recorded.data_digests and recorded.data_digests != {digest}:
        message = f"is not what run {label} was trained on, though it lies in the same place: start a new run"
        raise ConfigError.single("data", message)


def _finish_complete(asked: SingleRun, earlier: EarlierRun, tracker: Tracker) -> None:
    """Ends the record of a run that was killed between its result and its end."""
    try:
        recorded = tracker.recorded(earlier.run_id)
        is_left = recorded is not None and recorded.state != "COMPLETE"
    except UnreachableError:
        is_left = True  # it cannot be known; what is there already is not written again
    if is_left:
        _open_run(asked, tracker).finish("COMPLETE")


def _run(
    asked: SingleRun,
    folder: Path,
    run: TrialTracker,
    console: Console,
    program: str,
    group: TrainingGroup | None,
) -> TrialResult | None:
    """Trains and ends the run; None where it failed, which is told."""
    config, label = asked.config, run.run_id[:8]
    with open_display(console, config.objective) as display:

        def report(_: int, metrics: Mapping[str, float]) -> Decision:
            display.score(label, metrics[config.objective])
            return Decision.GO_ON

        def progress(step: int, total: int) -> None:
            display.progress(label, step, total)

        try:
            _begin(asked, label, display)
            if asked.resumed is not None and asked.resumed.is_changed:
                copy_training(asked.resumed.run, folder)
                run.log_history(history_of(asked.resumed.run))
            setup = TrialSetup(config, folder, run, report, progress, asked.emissions, single=True, group=group)
            result = run_trial(setup)
        except Interrupted:
            with shielded():
                run.finish("RUNNING")
                display.end(label, "RUNNING", None, f"interrupted; {_command(asked, run, program)} goes on with it")
            raise
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}")
            display.end(label, "FAIL", None, reason)
            with shielded():
                run.set_tags({"embedsweep.failure": reason})
                run.finish("FAIL")
            say(console, f"log: {folder / 'train.log'}")
            if (step := Checkpoints(folder / CHECKPOINTS).last_whole()) is not None:
                say(console, f"go on from step {step}: {_command(asked, run, program)}")
            return None
        with shielded():
            run.finish("COMPLETE")
            display.end(label, "COMPLETE", result.objective, "")
    return result


def _begin(asked: SingleRun, label: str, display: Display) -> None:
    config, resumed = asked.config, asked.resumed
    note = ""
    if resumed is not None:
        step = resumed.run.last_step or 0
        note = f"from step {step}" + (f" of {resumed.run.run_id[:8]}" if resumed.is_changed else "")
    display.begin(label, {"loss": config.loss.name, "model": config.model.name, "data": config.data.name}, note)
    for line in data_warnings(config):
        display.say(f"data: {line}")


def _command(asked: SingleRun, run: TrialTracker, program: str) -> str:
    """The command that goes on with the run."""
    folder = asked.resumed.run.folder if asked.resumed is not None and not asked.resumed.is_changed else None
    elsewhere = folder is not None and folder.resolve().parent != SINGLE_RUNS.resolve()
    name = shlex.quote(str(folder)) if elsewhere else run.run_id[:8]
    return " ".join((program, f"resume={name}", *(shlex.quote(redact(word)) for word in asked.service_overrides)))
