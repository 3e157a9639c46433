"""Where a study stands while it runs: finished trials, the best one, its cost, and the line that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from optuna.trial import FrozenTrial, TrialState

from embedsweep.console import duration
from embedsweep.files import MODEL
from embedsweep.report.ranking import rerun_command
from embedsweep.study.duplicates import trained_params
from embedsweep.study.finals import expects_finals
from embedsweep.study.record import EMISSIONS_KG, LOST, RESULT, RETRY_OF, RUN_ID, StudyRecord

UNSHOWN = ("best", "seconds", "unit", "then")
"""Fields of a status that events for programs give otherwise, or not at all."""


@dataclass(frozen=True)
class StudyStatus:
    """What the storage knows of a study at one moment.

    Attributes:
        n_trials: how many trials were asked for.
        n_expected: how many it has when it is complete: fewer where ``study.patience`` has stopped it.
        stopped: whether it has.
        n_finished: how many of these are finished; a failed trial that is retried is not.
        n_left: how many no living process runs: new ones, and those that wait to be resumed.
        n_complete: trials with a result.
        n_pruned: trials that were ended early.
        n_failed: trials that failed and are not retried.
        best: number and objective of the best trial; None without a complete one.
        co2eq_kg: emissions of all trials, in kilograms; None where nothing is recorded.
        seconds: number -> recorded seconds of each finished trial that has a record of them.
        unit: what its trials are called: ``trial``, or ``final`` of finals.
        then: what follows once all are finished, in words.
    """

    n_trials: int
    n_expected: int
    stopped: bool
    n_finished: int
    n_left: int
    n_complete: int
    n_pruned: int
    n_failed: int
    best: tuple[int, float] | None
    co2eq_kg: float | None
    seconds: Mapping[int, float]
    unit: str
    then: str

    @property
    def finished_text(self) -> str:
        """How many are finished, in words: ``25 of 100 trials finished, stopped by study.patience``."""
        stopped = ", stopped by study.patience" if self.stopped else ""
        return f"{self.n_finished} of {self.n_trials} {self.unit}s finished{stopped}"

    def n_elsewhere(self, n_here: int) -> int:
        """Return how many trials other commands run, where this one runs ``n_here``."""
        return max(0, self.n_expected - self.n_finished - self.n_left - n_here)


def study_status(study: StudyRecord) -> StudyStatus:
    """Return where a study stands, as its storage has it now."""
    trials = study.trials
    replaced = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    finished = [trial for trial in trials if trial.state.is_finished() and LOST not in trial.user_attrs]
    counted = [trial for trial in finished if trial.number not in replaced]
    costs = [trial.user_attrs[EMISSIONS_KG] for trial in trials if EMISSIONS_KG in trial.user_attrs]
    best, n_expected = study.best, study.n_expected
    objective = study.plan.objectives.index(study.plan.objective)
    return StudyStatus(
        n_trials=study.n_trials,
        n_expected=n_expected,
        stopped=n_expected < study.n_trials,
        n_finished=len(counted),
        n_left=study.n_left,
        n_complete=_count(counted, TrialState.COMPLETE),
        n_pruned=_count(counted, TrialState.PRUNED),
        n_failed=_count(counted, TrialState.FAIL),
        best=(best.number, best.values[objective]) if best is not None else None,
        co2eq_kg=sum(costs) if costs else None,
        seconds={
            trial.number: float(trial.user_attrs[RESULT]["emissions"]["duration_s"])
            for trial in finished
            if RESULT in trial.user_attrs
        },
        unit=study.unit,
        then=_then(study),
    )


def _then(study: StudyRecord) -> str:
    if study.is_finals:
        return "comparing them"
    return "the finals come next" if expects_finals(study) else "scoring the best one on test"


def _count(trials: list[FrozenTrial], state: TrialState) -> int:
    return sum(trial.state is state for trial in trials)


def status_line(status: StudyStatus, trials_per_s: float | None, seconds_left: float | None) -> str:
    """Return a study's status in one line: ``8/20: 5 complete, 3 pruned; best 0.4185 (trial 7); ...``.

    Args:
        status: where it stands.
        trials_per_s: trials that are finished a second; None while unknown.
        seconds_left: until it is complete; None while unknown.
    """
    counts = {"complete": status.n_complete, "pruned": status.n_pruned, "failed": status.n_failed}
    states = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    parts = [f"{status.n_finished}/{status.n_expected}" + (f": {states}" if states else "")]
    parts.append(
        f"best {status.best[1]:.4f} ({status.unit} {status.best[0]})" if status.best is not None else "no best yet"
    )
    if trials_per_s is not None:
        parts.append(f"{60 * trials_per_s:.1f}/min" if 60 * trials_per_s >= 1 else f"{3600 * trials_per_s:.1f}/h")
    if status.n_finished < status.n_expected:
        parts.append("time left unknown" if seconds_left is None else f"{duration(seconds_left)} left")
    if status.co2eq_kg is not None:
        parts.append(f"{1000 * status.co2eq_kg:.3g} g CO2eq")
    line = "; ".join(parts)
    return f"finals {line}" if status.unit == "final" else line


def result_fields(study: StudyRecord, program: str) -> dict[str, object]:
    """Return the result of a command on a study, for programs.

    Args:
        study: the study.
        program: how this program was started.
    """
    status, best, tested = study_status(study), study.best, study.test_scores
    answer, test, finals = study.answer, study.finals_test, study.finals
    counts = {name: value for name, value in vars(status).items() if name not in UNSHOWN}
    fields: dict[str, object] = {"study": study.name, **counts, "unfinished": study.unfinished, "best": None}
    if best is not None:
        model = study.trial_folder(best.number) / MODEL
        fields["best"] = {
            "trial": best.number,
            "run_id": best.user_attrs.get(RUN_ID),
            "params": study.params_of(best),
            "objectives": dict(zip(study.plan.objectives, best.values, strict=True)),
            "test": tested.scores if tested is not None and tested.number == best.number else None,
            "model": str(model) if model.is_dir() else None,
            "command": rerun_command(program, study.fixed, trained_params(study.plan, best)),
        }
    fields["chosen"] = study.chosen
    fields["verdict"] = asdict(answer.verdict) if answer is not None and answer.verdict is not None else None
    if finals is not None:
        fields["finals"] = {
            "n_trials": finals.n_trials,
            "unfinished": finals.unfinished,
            "test": test.mean() if test is not None else None,
            "model": str(study.chosen_folder / MODEL) if (study.chosen_folder / MODEL).is_dir() else None,
        }
    return fields
