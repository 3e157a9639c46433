"""How an attempt at a trial ends: reported to MLflow, to Optuna and to people, in this order.

Optuna's record comes last and is the one that counts, so that a kill in between loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from embedsweep.config.identity import config_hash
from embedsweep.config.metrics import is_dev_metric
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.console import Display
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.errors import TrackingError, TrialTakenError
from embedsweep.files import MODEL
from embedsweep.secrets import redact
from embedsweep.study.keep import constraints_of, forgets_text, forgotten
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.pruning import PRUNED
from embedsweep.study.study import Study
from embedsweep.tracking.names import FORGETS, best_metrics
from embedsweep.tracking.runs import TrialState, TrialTracker
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.folder import write_config, write_result


def record_reuse(
    config: TrialConfig,
    folder: Path,
    run: TrialTracker,
    original: TrialResult | None,
    values: Mapping[str, float],
    last_step: int,
) -> TrialResult | None:
    """Record the final scores of another trial as this one's; its emissions and its model stay the other's.

    Args:
        config: the configuration of both.
        folder: this trial's folder; gets ``config.yaml`` and ``result.json``.
        run: this trial's run.
        original: the other trial's result; None if an older version kept it on another machine only.
        values: the other trial's objectives in Optuna, by name.
        last_step: the last optimizer step at which the other was evaluated.

    Returns:
        The result of this trial; None where only ``values`` are recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.yaml", config)
    run.log_artifact(folder / "config.yaml")
    if original is None:
        run.log_metrics(last_step, best_metrics({name: value for name, value in values.items() if is_dev_metric(name)}))
        return None
    gpu_h = None if original.emissions.gpu_h is None else 0.0
    nothing = replace(original.emissions, co2eq_kg=0.0, energy_kwh=0.0, duration_s=0.0, unmeasured=(), gpu_h=gpu_h)
    result = replace(original, emissions=nothing, context=run.context)
    write_result(folder, result)
    run.log_metrics(result.best_step, best_metrics(result.dev))
    return result


@dataclass(frozen=True)
class Outcomes:
    """Reports how a worker's attempts ended.

    Attributes:
        study: the study of its trials.
        display: shows them.
    """

    study: Study
    display: Display

    def complete(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker, result: TrialResult) -> None:
        """End a trial that has a result, pruned or not.

        Raises:
            TrackingError: its run cannot be ended; nothing is reported to Optuna then.
            TrialError: what ``study.keep`` compares is not known; its run is still open then.
            TrialTakenError: another worker has resumed the trial.
        """
        keep = self.study.plan.keep
        forgets = forgets_text(forgotten(keep, constraints_of(keep, result)))
        if self.study.services.keep_models == "all" and (trial.folder / MODEL).is_dir():
            run.log_artifact(trial.folder / MODEL, MODEL)
        state: TrialState = "PRUNED" if result.pruned else "COMPLETE"
        note = f"{result.emissions.co2eq_kg * 1000:.3g} g CO2eq"
        if reason := self.study.prune_reason(trial):
            run.set_tags({PRUNED: reason})
            note += f", pruned {reason}"
        if forgets:
            run.set_tags({FORGETS: forgets})
            note += f", {forgets}"
        run.finish(state)
        if (store_id := run.store_id) != run.run_id:  # the store was away when the run began, and is back
            self.study.set_run(trial, store_id, config_hash(config))
        self.study.complete(trial, result)
        self.display.end(str(trial.number), state, result.objective, note)

    def fail(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """End a trial that failed; it is recorded in MLflow if possible, in Optuna in any case.

        Raises:
            TrialTakenError: another worker has resumed the trial.
        """
        if run is not None:
            try:
                run.set_tags({"embedsweep.failure": reason})
                if (trial.folder / "train.log").is_file():
                    run.log_artifact(trial.folder / "train.log")
                run.finish("FAIL")
            except Exception as error:
                reason += f" (and its run could not be ended: {redact(str(error))})"
        cost = EmissionsMeter(self.study.services.emissions, trial.folder / "emissions.csv").total()
        self.study.fail(trial, reason, cost, run.context if run is not None else None)
        self.display.end(str(trial.number), "FAIL", None, reason.splitlines()[0])

    def reuse(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker, number: int) -> None:
        """End a trial that repeats trial ``number`` with that one's result, untrained."""
        original = self.study.trial(number)
        state: TrialState = "PRUNED" if original.state.name == "PRUNED" else "COMPLETE"
        values = dict(zip(self.study.plan.objectives, original.values or (), strict=False))
        whole = self.study.result_of(original)
        result = record_reuse(config, trial.folder, run, whole, values, original.last_step or 0)
        forgets = forgets_text(forgotten(self.study.plan.keep, original.constraints))
        if forgets:
            run.set_tags({FORGETS: forgets})
        run.finish(state)
        self.study.reuse(trial, original, result)
        elsewhere = "" if result is not None else ", whose other scores are on another machine"
        note = f"reused from trial {number}{elsewhere}{forgets and ', '}{forgets}"
        self.display.end(str(trial.number), state, values.get(self.study.plan.objective), note)

    def retry(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """Release a trial whose attempt failed, so that whoever asks next retries it."""
        self._interrupt(run)
        self.study.retry(trial, reason)
        count = f"{len(trial.failures) + 1}/{self.study.services.max_retries}"
        self.display.end(str(trial.number), "WAITING", None, f"failed, retrying ({count}): {reason.splitlines()[0]}")

    def resume_after_death(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """Release a trial of which a process died or lost its GPU, so that whoever asks next resumes it."""
        self._interrupt(run)
        self.study.release_after_death(trial, reason)
        self.display.end(str(trial.number), "WAITING", None, f"will be resumed: {reason.splitlines()[0]}")

    def interrupt(self, trial: OpenTrial, run: TrialTracker | None) -> None:
        """Release an interrupted trial, so that it is resumed."""
        try:
            self._interrupt(run)
        finally:
            with suppress(TrialTakenError):
                self.study.release(trial)
            place = Checkpoints(trial.folder / CHECKPOINTS).place
            self.display.end(str(trial.number), "WAITING", None, f"interrupted; will be resumed {place}")

    def _interrupt(self, run: TrialTracker | None) -> None:
        """End a run that will be resumed; if MLflow cannot be reached, the trial's lease shows it."""
        try:
            if run is not None:
                run.finish("RUNNING")
        except TrackingError as error:
            self.display.say(str(error))
