"""The functions of ``import embedsweep``: what the commands do, for notebooks and programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from rich.console import Console

from embedsweep.commands.caller import check_one_gpu, guest, readable
from embedsweep.config.compose import describe_user_conf
from embedsweep.config.result import TrialResult
from embedsweep.config.study import StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.console import OutputStyle, open_console, say
from embedsweep.errors import ConfigError, TrackingError, TrialError
from embedsweep.files import MODEL, SWEEPS, user_path
from embedsweep.machine import prepare_process
from embedsweep.training.group import open_group

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from embedsweep.commands.single import EndedRun
    from embedsweep.report.loaded_study import LoadedStudy

PROGRAM = "embedsweep train"
"""How the printed commands begin."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run without a study.

    Attributes:
        run_id: the id of its MLflow run.
        folder: its folder, an absolute path.
        config: its configuration.
        result: its scores, its curve and what it cost.
    """

    run_id: str
    folder: Path
    config: TrialConfig
    result: TrialResult

    def model(self, device: str | None = None) -> SentenceTransformer:
        """Return the trained model.

        Args:
            device: as torch names it (``cpu``, ``cuda:0``); None chooses the best there is.
        """
        from embedsweep.models.loading import load_model

        trusts = self.config.model.trust_remote_code
        return load_model(str(self.folder / MODEL), device=device, trust_remote_code=trusts)


def start_single(overrides: list[str], console: Console, program: str, style: OutputStyle) -> EndedRun:
    """Validate a command for one run, and run it; libraries that are slow to import are imported in between.

    Args:
        overrides: its overrides.
        console: where output is printed.
        program: how this program was started.
        style: how the run is shown.

    Raises:
        ConfigError: everything that is wrong with the overrides.
        EmbedsweepError: as `check_one_gpu` and `run_single`.
    """
    from embedsweep.validation.single import pass_single

    request = pass_single(overrides)
    device = request.config.trainer.device
    check_one_gpu(device)
    with open_group(request.processes, device) as group:  # assigns the GPUs that this process still sees
        prepare_process(device)
        from embedsweep.commands.single import run_single

        return run_single(request, console, program, group, style)


@readable
def train(overrides: Iterable[str] = (), *, quiet: bool = False) -> TrainedRun:
    """Train one configuration, as ``embedsweep train`` does, and return the run.

    What the command prints is printed. One call at a time can train in a process, from any thread.

    Args:
        overrides: ``key=value`` words of the command, such as ``loss=mnrl``; ``resume=RUN`` resumes a run.
        quiet: print warnings and the result only.

    Raises:
        ConfigError: everything that is wrong with the overrides; nothing was trained.
        TrialError: the run failed.
        TrackingError: MLflow's store refuses a record of it.
        EmbedsweepError: another call trains in this process, or a store cannot be used.
        KeyboardInterrupt: the run was interrupted; the printed command resumes it.
    """
    words = _words(overrides)
    with guest():
        run = start_single(words, _open_console(), PROGRAM, "quiet" if quiet else "lines")
    if run.result is None:
        raise TrialError(f"{run.failure}; log: {run.folder / 'train.log'}")
    if run.failure is not None:
        raise TrackingError(run.failure)
    return TrainedRun(run.run_id, run.folder.resolve(), run.config, run.result)


@readable
def sweep(overrides: Iterable[str], *, quiet: bool = False) -> LoadedStudy:
    """Run a study, as ``embedsweep train -m`` does, and return it; the same call resumes it.

    What the command prints is printed. One call at a time can train in a process, from any thread; with
    ``workers=local`` its trials run in processes of their own. Failed trials raise nothing: their rows of
    ``trials()`` have the state ``FAIL`` and a reason.

    Args:
        overrides: words of the command, such as ``loss=mnrl,cosent``, ``search=full`` and ``study.n_trials=20``.
        quiet: print warnings and the result only.

    Raises:
        ConfigError: everything that is wrong with the overrides; nothing was trained.
        TrackingError: MLflow's store refuses a record of it.
        EmbedsweepError: another call trains in this process, a store cannot be used, or workers cannot start.
        KeyboardInterrupt: the study was interrupted; the same call resumes it.
    """
    from embedsweep.validation.sweep import pass_sweep

    words = _words(overrides)
    with guest():
        console = _open_console()
        request = pass_sweep(words)
        if request.study.dry_run:
            raise ConfigError.single("study.dry_run", "leave it out: compose(..., sweep=True) returns the plan")
        from embedsweep.commands.sweep import FAILED, run_sweep
        from embedsweep.report.loaded_study import LoadedStudy
        from embedsweep.study.opening import place

        name, _, url = place(request)
        if run_sweep(request, console, PROGRAM, "quiet" if quiet else "lines") == FAILED:
            raise TrackingError(f"MLflow's store refuses records of study {name}: the lines above name them")
    return LoadedStudy.read(name, SWEEPS.resolve(), url)


@readable
def load_study(name: str, *, folder: str | Path = ".", storage: str | None = None) -> LoadedStudy:
    """Open a study for reading, whether it runs, was interrupted or is complete.

    Args:
        name: its name.
        folder: the working directory of its command.
        storage: its ``study.storage``, where that has a password, which is not kept, or the study was made in another
            folder.

    Raises:
        ConfigError: there is no such study; the message lists those there are.
        StudyError: its storage cannot be read.
    """
    from embedsweep.report.loaded_study import LoadedStudy

    return LoadedStudy.read(name, (user_path(str(folder)) / SWEEPS).resolve(), storage)


@overload
def compose(overrides: Iterable[str] = (), *, sweep: Literal[False] = False) -> TrialConfig: ...


@overload
def compose(overrides: Iterable[str] = (), *, sweep: Literal[True]) -> StudyPlan: ...


@readable
def compose(overrides: Iterable[str] = (), *, sweep: bool = False) -> TrialConfig | StudyPlan:
    """Return the checked configuration that a command would train; nothing is trained or created.

    Args:
        overrides: words of the command.
        sweep: whether it is a study's command, with ``-m``.

    Returns:
        The frozen configuration of one run; with ``sweep``, the frozen plan of the study: its axes, the configuration
        of each combination of options, its sampler and the like.

    Raises:
        ConfigError: everything that is wrong with the overrides.
    """
    words = _words(overrides)
    if not sweep:
        from embedsweep.validation.single import pass_single

        return pass_single(words).config
    from embedsweep.study.reading import read_study
    from embedsweep.validation.sweep import pass_sweep

    request = pass_sweep(words)
    if request.plan is not None:
        return request.plan
    return read_study(str(request.study.name), storage=request.study.storage).plan


def _words(overrides: Iterable[str]) -> list[str]:
    if isinstance(overrides, str):
        raise ConfigError.single(overrides, f"give a list of overrides: [{overrides!r}]")
    return list(overrides)


def _open_console() -> Console:
    console = open_console(sys.stdout)
    for line in describe_user_conf():
        say(console, line)
    return console
