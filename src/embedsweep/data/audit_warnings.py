"""What of an audit matters, in words.

Owns which counts deserve a warning and how it is worded. Counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from embedsweep.data.audit import Audit, Shared, SplitAudit

MANY_TOO_LONG = 0.05
"""Share of texts cut by the model above which it is worth a warning."""
FEW = 0.01
"""Share of examples below which a class is worth a warning."""
LOW = 0.25
"""Highest score, in [0, 1], up to which it is likely that the scores have another range: 0-1 read as 0-4 or 0-5."""


def warnings(found: Audit) -> list[str]:
    """What of it matters, a line each; empty where nothing does."""
    told: list[str] = []
    for name, shared in found.shared.items():
        told += _warn_of_shared(name, shared)
    for split, one in found.splits.items():
        told += _warn_of_repeats(split, one)
        told += _warn_of_scale(split, one)
        told += _warn_of_classes(split, one)
        told += _warn_of_lengths(split, one)
    return told


def _warn_of_shared(name: str, shared: Shared) -> Iterator[str]:
    earlier, later = name.split("/")
    if earlier == "train" and shared.pairs == shared.of:
        yield f"{later} is trained on: {shared.pairs} of {shared.of} pairs occur in train"
    elif shared.pairs or shared.sentences:
        mend = "; data.drop_leaked=true leaves them out of train" if earlier == "train" else ""
        pairs = f"{shared.pairs} of {shared.of} {later} pairs and " if shared.pairs else ""
        yield f"{pairs}{shared.sentences} sentences of {later} also occur in {earlier}{mend}"


def _warn_of_repeats(split: str, one: SplitAudit) -> Iterator[str]:
    if again := one.duplicates + one.turned:
        turned = f", {one.turned} of them turned round" if one.turned else ""
        labels = f"; {one.disagreeing} of the repeated have different labels" if one.disagreeing else ""
        at = _at(one, "duplicates")
        yield f"{again} of {one.examples} {split} examples come again{turned}{at}{labels}{_at(one, 'disagreeing')}"
    if one.identical:
        at = _at(one, "identical")
        yield f"{one.identical} of {one.examples} {split} examples have the same text twice{at}"


def _at(one: SplitAudit, kind: str) -> str:
    """Where the first examples of a kind stand: `` (train.csv, lines 12, 57 and 103)``; empty where nobody knows."""
    places = one.places[kind]
    numbers: dict[str, list[str]] = {}
    for place in places:
        source, _, number = place.rpartition(" ")
        numbers.setdefault(source, []).append(number)
    told = [
        f"{source} {found[0]}" if len(found) == 1 else f"{source}s {', '.join(found[:-1])} and {found[-1]}"
        for source, found in numbers.items()
    ]
    return f" ({'; '.join(told)})" if told else ""


def _warn_of_scale(split: str, one: SplitAudit) -> Iterator[str]:
    # Dev and test are ranked only, which no scale changes.
    if split == "train" and one.highest is not None and one.highest <= LOW:
        yield (
            f"the highest score of train is {one.highest:g} of data.score_range, taken as 0-1: if 1 is the highest "
            "possible score in the source, say data.score_range=[0,1]"
        )


def _warn_of_classes(split: str, one: SplitAudit) -> Iterator[str]:
    if one.shape == "scored_pairs":
        return
    for name, number in one.labels.items():
        if number < max(2, FEW * one.examples):
            yield f"only {number} of {one.examples} {split} examples are of the class {name}"


def _warn_of_lengths(split: str, one: SplitAudit) -> Iterator[str]:
    for column, lengths in one.lengths.items():
        for each in lengths:
            if each.over > MANY_TOO_LONG * one.examples:
                yield (
                    f"{each.over} of {one.examples} texts in {column} of {split} are cut: the model reads "
                    f"{each.maximum} tokens, and they have up to {each.longest}"
                )
