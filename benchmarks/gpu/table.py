"""The table of all ways, notes on its figures, and whether each way reaches the goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.gpu.results import Comparison, Result, best_difference, compare

GOAL = 15.0
GOAL_PRUNED = 30.0
"""Trials a GPU hour, as a multiple of A's, without and with pruning."""
GOAL_BELOW = 0.005
"""The best dev Spearman may be at most this much lower."""
SAME_MIX = 0.05
"""If the mean steps of a trial differ by more than this fraction, two ways trained different mixes of trials."""

Cell = float | int | str | None
COLUMNS: tuple[tuple[str, str, Callable[[Result, Comparison], Cell]], ...] = (
    ("way", "", lambda result, _: result.way.name),
    ("workers", "d", lambda result, _: result.way.workers),
    ("MPS", "d", lambda result, _: result.mps_clients),
    ("trials", "", lambda result, _: "/".join(str(result.count(state)) for state in ("COMPLETE", "PRUNED", "FAIL"))),
    ("wall s", ".1f", lambda result, _: result.wall_s),
    ("to 1st", ".1f", lambda result, _: result.to_first_s),
    ("span s", ".1f", lambda result, _: result.span_s),
    ("tr/min", ".2f", lambda result, _: result.per_minute),
    ("x A", ".2f", lambda _, beside: beside.per_minute),
    ("of wall", ".2f", lambda result, _: result.per_minute_of_wall),
    ("x A", ".2f", lambda _, beside: beside.per_minute_of_wall),
    ("steps/s", ".1f", lambda result, _: result.steps_per_s),
    ("x A", ".2f", lambda _, beside: beside.steps_per_s),
    ("steps/tr", ".0f", lambda result, _: result.steps_per_trial),
    ("GPU s/tr", ".2f", lambda result, _: result.gpu_s_per_trial),
    ("best dev", ".4f", lambda result, _: result.best),
    ("dev - A", "+.4f", lambda _, beside: beside.best_difference),
    ("util %", ".0f", lambda result, _: result.use.utilisation),
    ("W", ".0f", lambda result, _: result.use.power),
    ("kJ", ".1f", lambda result, _: result.use.energy_kj),
    ("GiB", ".1f", lambda result, _: result.use.memory),
)
"""Title, format and value of each column."""


def report(results: Sequence[Result]) -> str:
    """Return the table, its notes and the verdicts on the goal, as text."""
    peer = _peer(results)
    return "\n".join([*rows(results), "", *_notes(results, peer), "", *_verdicts(results, peer)])


def rows(results: Sequence[Result]) -> list[str]:
    """Return the lines of the table: titles, then one line for each way."""
    peer = _peer(results)
    cells = [[title for title, _, _ in COLUMNS]]
    for result in results:
        beside = Comparison() if peer is None else compare(result, peer)
        cells.append([_cell(value(result, beside), form) for _, form, value in COLUMNS])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _peer(results: Sequence[Result]) -> Result | None:
    return next((result for result in results if result.way.is_peer), None)


def _cell(value: Cell, form: str) -> str:
    return "-" if value is None else format(value, form)


def _notes(results: Sequence[Result], peer: Result | None) -> list[str]:
    notes = [
        "MPS: most clients seen at once. trials: complete/pruned/failed. to 1st: seconds to the first trial's start.",
        "span: from there to the last trial's end; rates and the GPU's figures are over it, 'of wall' over all of it.",
        "dev - A: over the points that A completed and the way completed or pruned, the way's best dev less A's.",
    ]
    for words, names in (
        ("ended at its time limit", [_with_counts(result) for result in results if result.ended.is_timed_out]),
        ("fewer trials than points", [_with_counts(result) for result in results if result.is_short]),
        ("trials failed", [f"{result.way.name} ({count})" for result in results if (count := result.count("FAIL"))]),
    ):
        notes += [f"{words}: {', '.join(names)}"] if names else []
    notes += [
        f"{result.way.name}: {result.mps_clients or 0} MPS clients seen, {result.way.workers} expected"
        for result in results
        if result.way.mps and (result.mps_clients or 0) < result.way.workers
    ]
    return notes if peer is None else [*notes, *_notes_on_peer(results, peer)]


def _with_counts(result: Result) -> str:
    return f"{result.way.name} ({len(result.done)} of {result.n_points})"


def _notes_on_peer(results: Sequence[Result], peer: Result) -> list[str]:
    others = [result for result in results if result is not peer]
    notes = []
    if any(len(result.done) > len(peer.done) for result in others):
        notes.append(
            f"A trained {len(peer.done)} of the points that the others were given; 'x A' compares rates. "
            "A's start is spread over fewer trials, which flatters the others' ratio over the wall."
        )
    notes += [
        f"{result.way.name}: its trials had {steps:.2f} times the steps of A's, a different mix of losses and batch "
        "sizes: steps/s compare, trials a minute do not"
        for result in others
        if (steps := _other_mix(result, compare(result, peer))) is not None
    ]
    return notes


def _other_mix(result: Result, beside: Comparison) -> float | None:
    """Return the mean steps of a way's trials as a multiple of A's if they differ; None for a way that prunes."""
    steps = beside.steps_per_trial
    return steps if steps is not None and not result.way.pruning and abs(steps - 1) > SAME_MIX else None


def _verdicts(results: Sequence[Result], peer: Result | None) -> list[str]:
    lines = [
        f"goal: {GOAL:g} times A's trials a GPU hour (over the span) without pruning, {GOAL_PRUNED:g} times with, "
        f"best dev at most {GOAL_BELOW:g} below that of the same points without pruning"
    ]
    if peer is None or not peer.done:
        return [*lines, "not judged: A has no trials"]
    return lines + [f"  {_verdict(result, peer, results)}" for result in results if result is not peer]


def _verdict(result: Result, peer: Result, results: Sequence[Result]) -> str:
    """Return whether a way reaches the goal, in words.

    The best score of a way that prunes is compared with A's scores and, for points that A did not train, with those of
    the other ways without pruning.
    """
    scores = dict(peer.scores)
    if result.way.pruning:
        for other in results:
            scores = (other.scores if not other.way.pruning else {}) | scores
    common, difference = best_difference(result, scores)
    beside, goal = compare(result, peer), GOAL_PRUNED if result.way.pruning else GOAL
    times, of = beside.per_minute, "trials a minute"
    if _other_mix(result, beside) is not None:
        times, of = beside.steps_per_s, "steps/s"
    if times is None or difference is None:
        return f"{result.way.name}: not judged, no complete trial to compare"
    is_fast, is_good = times >= goal, difference >= -GOAL_BELOW
    return (
        f"{result.way.name}: {'REACHED' if is_fast and is_good else 'MISSED'}: {times:.1f} times A's {of}, "
        f"{'at least' if is_fast else 'below'} {goal:g}; best dev {difference:+.4f} over {common} points, "
        f"{'within' if is_good else 'beyond'} {GOAL_BELOW:g}"
    )
