"""The results of a study as plain containers, for other programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from embedsweep.report.results import ConfigurationRow, StudyResults, TrialRow, final_rows
from embedsweep.report.status import study_status
from embedsweep.study.record import StudyRecord


def tree_of(results: StudyResults) -> dict[str, Any]:
    """Return what ``embedsweep show --json`` writes: trials by number, and what follows from them.

    A difference is the 95 % interval of how far the best trial is above that one; null where it is not known.
    ``chosen`` is the trial whose configuration is the answer: the best finalist's, else the best one.
    """
    study, best, status = results.study, results.best, study_status(results.study)
    tested = results.test_scores
    return {
        "study": study.name,
        "state": study.state,
        "n_trials": status.n_trials,
        "n_expected": status.n_expected,
        "stopped": status.stopped,
        "objectives": list(study.plan.objectives),
        "best": best.number if best is not None else None,
        "before": results.before,
        "quote": study.quote,
        "test": dict(best.test) if best is not None else {},
        "test_interval": tested.interval if tested is not None and best is not None and best.test else None,
        "groups": {group: [asdict(option) for option in options] for group, options in results.groups.items()},
        "configurations": [_configuration(row) for row in results.configurations],
        "differences": {str(number): interval for number, interval in results.differences.items()},
        "undecided": list(results.undecided),
        "chosen": study.chosen,
        "trials": [_trial(row) for row in results.rows],
        "finals": [_final(study, row) for row in final_rows(study)],
        "answer": study.answer.tree() if study.answer is not None else None,
        "finals_test": asdict(study.finals_test) if study.finals_test is not None else None,
        "looks": [asdict(look) for look in study.looks],
    }


def _final(study: StudyRecord, row: TrialRow) -> dict[str, Any]:
    finals = study.finals
    point = finals.point_of(finals.trials[row.number]) if finals is not None else None
    of = {"finalist": point.finalist, "seed": point.seed} if point is not None else {"finalist": None, "seed": None}
    return {**of, **_trial(row)}


def _configuration(row: ConfigurationRow) -> dict[str, Any]:
    return {
        "values": row.values,
        "trials": [trial.number for trial in row.rows],
        "reused": list(row.reused),
        "mean": dict(row.mean),
        "spread": dict(row.spread),
    }


def _trial(row: TrialRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.state,
        "values": dict(row.values),
        "objectives": dict(row.objectives),
        "interval": row.interval,
        "dev": dict(row.result.dev) if row.result is not None else {},
        "test": dict(row.test),
        "steps": row.steps,
        "cost": asdict(row.cost),
        "run_id": row.run_id,
        "reason": row.reason,
        "forgets": dict(row.forgets),
        "duplicate": asdict(row.duplicate) if row.duplicate is not None else None,
        "folder": str(row.folder),
    }
