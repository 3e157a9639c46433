"""How an attempt at a trial ends: what is told of it to MLflow, to Optuna and to people, in this order.

Owns that order: Optuna's record comes last and is the one that counts. Knows nothing of how trials run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from embedsweep.config.identity import config_hash
from embedsweep.config.result import TrialResult
from embedsweep.config.study import EmissionsConfig
from embedsweep.config.trial import KeepModels, TrialConfig
from embedsweep.console import Display
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.errors import TrackingError, TrialTakenError
from embedsweep.files import MODEL
from embedsweep.secrets import redact
from embedsweep.study.pruning import PRUNED
from embedsweep.study.study import OpenTrial, Study
from embedsweep.tracking.runs import TrialState, TrialTracker
from embedsweep.training.folder import read_result, write_config, write_result


def record_reuse(
    config: TrialConfig, folder: Path, run: TrialTracker, source: Path, told: Mapping[str, float], last_step: int
) -> bool:
    """Records the final scores of another trial as this one's; its emissions and its model stay the other's.

    Args:
        config: of both.
        folder: this trial's own; gets ``config.yaml`` and ``result.json``.
        run: this trial's own.
        source: the other one's folder.
        told: what the study knows of the other: its objectives, by name.
        last_step: the last optimizer step that it was evaluated at.

    Returns:
        Whether all scores were found; where ``source`` lies on another machine, only ``told`` are recorded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "config.yaml", config)
    run.log_artifact(folder / "config.yaml")
    result = read_result(source)
    if result is None:
        run.log_metrics(last_step, {name: value for name, value in told.items() if name.startswith("dev")})
        return False
    gpu_h = None if result.emissions.gpu_h is None else 0.0
    nothing = replace(result.emissions, co2eq_kg=0.0, energy_kwh=0.0, duration_s=0.0, unmeasured=(), gpu_h=gpu_h)
    write_result(folder, replace(result, emissions=nothing))
    run.log_metrics(result.steps, result.dev)
    return True


class Outcomes:
    """Tells how attempts of one worker ended.

    Args:
        study: whose trials they are.
        display: where people see them.
        emissions: whose electricity is used.
        keep_models: which trials' models stay.
    """

    def __init__(self, study: Study, display: Display, emissions: EmissionsConfig, keep_models: KeepModels) -> None:
        self._study = study
        self._display = display
        self._emissions = emissions
        self._keep_models = keep_models

    def complete(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker, result: TrialResult) -> None:
        """Ends a trial that has a result, pruned or not.

        Raises:
            TrackingError: its run cannot be ended; nothing was told to Optuna then.
            TrialTakenError: another worker has taken the trial up.
        """
        if self._keep_models == "all" and (trial.folder / MODEL).is_dir():
            run.log_artifacts(trial.folder / MODEL, MODEL)
        state: TrialState = "PRUNED" if result.pruned else "COMPLETE"
        note = f"{result.emissions.co2eq_kg * 1000:.3g} g CO2eq"
        if reason := self._study.pruned_because(trial):
            run.set_tags({PRUNED: reason})
            note += f", pruned {reason}"
        run.finish(state)
        if (store_id := run.store_id) != run.run_id:  # it was begun while the store was away, which is back
            self._study.identify(trial, store_id, config_hash(config))
        self._study.complete(trial, result)
        self._display.end(str(trial.number), state, result.objective, note)

    def fail(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """Records a failure wherever that is still possible; Optuna's record comes last and is the one that counts."""
        if run is not None:
            try:
                run.set_tags({"embedsweep.failure": reason})
                if (trial.folder / "train.log").is_file():
                    run.log_artifact(trial.folder / "train.log")
                run.finish("FAIL")
            except Exception as error:
                reason += f" (and its run could not be ended: {redact(str(error))})"
        cost = EmissionsMeter(self._emissions, trial.folder / "emissions.csv").total()
        self._study.fail(trial, reason, cost)
        self._display.end(str(trial.number), "FAIL", None, reason.splitlines()[0])

    def reuse(self, trial: OpenTrial, config: TrialConfig, run: TrialTracker, number: int) -> None:
        """Ends a trial that repeats trial ``number`` as that one ended, untrained."""
        original = self._study.trials[number]
        state: TrialState = "PRUNED" if original.state.name == "PRUNED" else "COMPLETE"
        told = dict(zip(self._study.plan.objectives, original.values or (), strict=False))
        source = self._study.trial_folder(number)
        is_whole = record_reuse(config, trial.folder, run, source, told, original.last_step or 0)
        run.finish(state)
        self._study.reuse(trial, original)
        note = f"reused from trial {number}" + ("" if is_whole else ", whose other scores are on another machine")
        self._display.end(str(trial.number), state, told.get(self._study.plan.objective), note)

    def retry(self, trial: OpenTrial, run: TrialTracker | None, reason: str) -> None:
        """Leaves a trial whose attempt failed to be begun again, by whoever asks next."""
        self._interrupt(run)
        self._study.retry(trial, reason)
        begun_again = (
            f"failed, begun again ({trial.attempt} of {self._study.services.max_retries}): {reason.splitlines()[0]}"
        )
        self._display.end(str(trial.number), "RUNNING", None, begun_again)

    def give_up(self, trial: OpenTrial, run: TrialTracker | None) -> None:
        """Leaves an interrupted trial to be resumed."""
        try:
            self._interrupt(run)
        finally:
            with suppress(TrialTakenError):
                self._study.release(trial)
            self._display.end(str(trial.number), "RUNNING", None, "interrupted; the same command goes on with it")

    def _interrupt(self, run: TrialTracker | None) -> None:
        """Ends a run that goes on later; if MLflow cannot be told, the trial's lease will show it."""
        try:
            if run is not None:
                run.finish("RUNNING")
        except TrackingError as error:
            self._display.say(str(error))
