"""Jobs at their time limit: a job that is requeued again and again while its study gets no further is to end.

Its limit is then too short to begin and to train a step. Nobody else could tell: each time it ends as it should.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedsweep.study.holder import SENT
from embedsweep.study.record import UNFINISHED, StudyRecord
from embedsweep.study.stopping import slurm_arrays
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints

LIMITS = "embedsweep.limits"
"""User attribute of a study: the id of a job -> its times at the limit without progress, and where the study was then.
Absent before the first time."""

MOST = 3
"""Times, one after another, that a job comes to its limit without any progress since the time before."""


def limits_without_progress(study: StudyRecord, job: str) -> int:
    """Note that a job is at its time limit; return how often it has been so while the study got no further.

    Other jobs may have got it further: only a study on which none does is at a standstill.
    """
    with study.lock():
        place = [sum(study.trial_counts), _newest_steps(study)]
        noted: Mapping[str, Any] = study._study.user_attrs.get(LIMITS, {})
        count, before = noted.get(job, (-1, place))
        count = 0 if place > before else count + 1
        live = {each: value for each, value in noted.items() if each.partition("_")[0] in slurm_arrays(study)}
        study._study.set_user_attr(LIMITS, {**live, job: [count, place]})
    return count


def _newest_steps(study: StudyRecord) -> int:
    """Return the steps of the newest checkpoints of all trials that are not finished, together."""
    steps = 0
    for each in (study, *([study.finals] if study.finals is not None else [])):
        for trial in each.trials:
            if trial.state in UNFINISHED:
                here = Checkpoints(each.trial_folder(trial.number) / CHECKPOINTS).last_sealed
                steps += max(here or 0, trial.user_attrs.get(SENT) or 0)
    return steps
