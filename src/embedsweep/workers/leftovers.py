"""Delete what finished trials leave in their folders: checkpoints, and models that are not kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

from embedsweep.files import MODEL
from embedsweep.study.objectives import best_of
from embedsweep.study.study import Study
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints


@dataclass(frozen=True)
class Leftovers:
    """Looks into the folder of each finished trial once, and into that of the best one until it no longer is.

    Attributes:
        study: the study.
    """

    study: Study
    _clean: set[int] = field(default_factory=set, init=False)

    def delete(self) -> None:
        """Delete checkpoints of finished trials, and models that are not kept.

        The best model so far is kept in any case: it is scored on test when the study is complete. Those of finals are
        kept until the study has its answer. No lock is needed: whichever trials have finished since they were read, the
        best of all is among those or still the same, and neither is deleted here.
        """
        study = self.study
        trials = study.trials
        best = best_of(trials, study.plan.objectives)
        for trial in trials:
            if not trial.state.is_finished() or trial.number in self._clean:
                continue
            folder = study.trial_folder(trial.number)
            Checkpoints(folder / CHECKPOINTS).clear()
            is_complete = trial.state.name == "COMPLETE"
            if is_complete and (study.services.keep_models == "all" or study.is_finals):
                self._clean.add(trial.number)
            elif best is None or trial.number != best.number:
                shutil.rmtree(folder / MODEL, ignore_errors=True)
                self._clean.add(trial.number)
