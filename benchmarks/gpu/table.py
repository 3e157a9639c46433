"""The table of all ways, what is to be known of its figures, and whether the goal is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.gpu.results import Comparison, Result, compare, ratio

GOAL = 15.0
GOAL_PRUNED = 30.0
"""Trials a GPU hour, as a multiple of A's, without and with pruning."""
GOAL_BELOW = 0.005
"""The best dev Spearman may be at most so much below A's."""
SAME_MIX = 0.05
"""Mean steps a trial that differ by more than this part are those of another mix of trials."""

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
    """Return the table, its notes and the goal's verdicts, as text."""
    peer = next((result for result in results if result.way.is_peer), None)
    return "\n".join([*_rows(results, peer), "", *_notes(results, peer), "", *_verdicts(results, peer)])


def _rows(results: Sequence[Result], peer: Result | None) -> list[str]:
    cells = [[title for title, _, _ in COLUMNS]]
    for result in results:
        beside = Comparison() if peer is None else compare(result, peer)
        cells.append([_cell(value(result, beside), form) for _, form, value in COLUMNS])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _cell(value: Cell, form: str) -> str:
    return "-" if value is None else format(value, form)


def _notes(results: Sequence[Result], peer: Result | None) -> list[str]:
    notes = [
        "MPS: most clients seen at once. trials: complete/pruned/failed. to 1st: seconds to the first trial's start.",
        "span: from there to the last trial's end; rates and the GPU's figures are over it, 'of wall' over all of it.",
        "dev - A: over the points that A completed and the way completed or pruned, the way's best dev less A's.",
    ]
    for words, own in (
        ("ended at its time limit", [result for result in results if result.ended.is_cut]),
        ("fewer trials than it was given", [result for result in results if len(result.done) < result.n_points]),
        ("trials failed", [result for result in results if result.count("FAIL")]),
    ):
        notes += [f"{words}: {', '.join(map(_with_counts, own))}"] if own else []
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
            f"A trained {len(peer.done)} trials, the first of the same list; 'x A' compares rates. "
            "A's start is spread over fewer trials, which flatters the others' ratio over the wall."
        )
    for result in others:
        steps = ratio(result.steps_per_trial, peer.steps_per_trial)
        if steps is not None and not result.way.pruning and abs(steps - 1) > SAME_MIX:
            notes.append(
                f"{result.way.name}: its trials had {steps:.2f} times the steps of A's, another mix of losses and "
                "batch sizes: steps/s compare, trials a minute do not"
            )
    return notes


def _verdicts(results: Sequence[Result], peer: Result | None) -> list[str]:
    lines = [
        f"goal: {GOAL:g} times A's trials a GPU hour (over the span) without pruning, {GOAL_PRUNED:g} times with, "
        f"best dev at most {GOAL_BELOW:g} below A's over the same points"
    ]
    if peer is None or not peer.done:
        return [*lines, "not judged: A has no trials"]
    return lines + [f"  {verdict(result, compare(result, peer))}" for result in results if result is not peer]


def verdict(result: Result, beside: Comparison) -> str:
    """Return in words whether a way holds the goal."""
    name, goal = result.way.name, GOAL_PRUNED if result.way.pruning else GOAL
    if beside.per_minute is None or beside.best_difference is None:
        return f"{name}: not judged, no complete trial in common with A"
    is_fast, is_good = beside.per_minute >= goal, beside.best_difference >= -GOAL_BELOW
    speed = f"{beside.per_minute:.1f} times, {'at least' if is_fast else 'below'} {goal:g}"
    within = "within" if is_good else "beyond"
    score = f"best dev {beside.best_difference:+.4f} over {beside.common} points, {within} {GOAL_BELOW:g}"
    return f"{name}: {'HELD' if is_fast and is_good else 'MISSED'}: {speed}; {score}"
