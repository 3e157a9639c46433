"""Generate the rows of ``src/embedsweep/data/demo.parquet``: scored pairs, inference pairs and sentences with topics.

    python -m tools.demo.generate

writes the file again. A score comes from the meanings of two sentences, never from their words: the same words can mean
something else (who follows whom, a "not"), and other words the same. Scores in the documentation, studies and the tiny
model depend on every row, so a change of the rows is a change of all of these.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from random import Random

from embedsweep.data.convert import Relation
from embedsweep.data.demo import FILE
from tools.demo.frames import (
    GROUPS,
    LANGUAGES,
    Change,
    changed,
    less,
    more,
    negated,
    other,
    pick,
    random_frame,
    same,
    shortened,
    swapped,
    times,
)
from tools.demo.sentences import Frame, render

Pair = tuple[str, str, float]
Row = tuple[str, str, str, str | None, float | None, str | None]

COLUMNS = ("data", "split", "first", "second", "score", "label")
"""Columns of the file: the ``data`` option, the split, one or two texts, and either a score from 0 to 5 or a class."""

PAIRS_SEED = 20240521
PAIRS = {"train": 8000, "dev": 800, "test": 800}
"""Scored pairs of each split."""

INFERENCE_SEED = 20240522
PREMISES = 1600

TOPICS_SEED = 20240523
SENTENCES = 4000

WEIGHTS = {
    "action": 3.0,
    "agent": 2.0,
    "object": 2.0,
    "place": 1.5,
    "time": 1.0,
    "manner": 1.0,
    "trait": 1.0,
    "quality": 1.0,
    "count": 0.5,
}
"""Weight of each part of a meaning in the score."""

NEGATION = 0.5
"""Factor on the score when only one of the two sentences is negated."""

VARIATIONS: tuple[Change, ...] = (
    *(same,) * 5,
    shortened,
    *(changed,) * 2,
    *(times(changed, 2),) * 2,
    *(times(changed, 3),) * 2,
    *(times(changed, 5),) * 2,
    *(times(changed, 9),) * 3,
    negated,
    *(swapped,) * 2,
    *(other,) * 4,
)


def scored_pairs() -> Mapping[str, Sequence[Pair]]:
    """Return for each split pairs of sentences with their similarity from 0 to 5.

    Three of eight pairs are English, three Spanish, two have a sentence of each. No pair occurs twice, in either order.
    """
    rng = Random(PAIRS_SEED)
    pairs: list[Pair] = []
    seen: set[frozenset[str]] = set()
    while len(pairs) < sum(PAIRS.values()):
        left = random_frame(rng)
        right = pick(rng, VARIATIONS)(left, rng)
        languages = pick(rng, LANGUAGES)
        first, second = (render(frame, language, rng) for frame, language in zip((left, right), languages, strict=True))
        both = frozenset((first, second))
        if len(both) == 2 and both not in seen:
            seen.add(both)
            pairs.append((first, second, score(left, right)))
    splits: dict[str, list[Pair]] = {}
    for split, size in PAIRS.items():
        splits[split], pairs = pairs[:size], pairs[size:]
    return splits


def score(left: Frame, right: Frame) -> float:
    """Return how similar two meanings are, from 0 to 5 in steps of 0.1; symmetric.

    The score is the weighted share of parts that agree. Related concepts agree by half. A part that only one sentence
    names has half its weight: leaving something out says less, but nothing else.
    """
    agreed = total = 0.0
    for part, weight in WEIGHTS.items():
        a, b = getattr(left, part), getattr(right, part)
        if a is None and b is None:
            continue
        if a is None or b is None:
            total += weight / 2
            continue
        total += weight
        if a == b:
            agreed += weight
        elif GROUPS[a] == GROUPS[b]:
            agreed += weight / 2
    share = agreed / total * (NEGATION if left.negated != right.negated else 1.0)
    return round(5 * share, 1)


def inference_pairs(held_out: Container[str]) -> list[tuple[str, str, Relation]]:
    """Return triples of premise, hypothesis and relation; three rows per premise, one of each relation.

    That a premise holds implies what says less of the same; that it does not hold implies that what says more of it
    does not hold either.

    Args:
        held_out: sentences that must not occur.
    """
    rng = Random(INFERENCE_SEED)
    pairs: list[tuple[str, str, Relation]] = []
    seen: set[str] = set()
    while len(pairs) < 3 * PREMISES:
        premise = random_frame(rng)
        if rng.random() < 0.3:  # otherwise a "not" would nearly decide the class
            premise = negated(premise, rng)
        premise_language, hypothesis_language = pick(rng, LANGUAGES)
        text = render(premise, premise_language, rng)
        hypotheses = {
            relation: render(frame, hypothesis_language, rng)
            for relation, frame in hypothesis_frames(premise, rng).items()
        }
        sentences = {text, *hypotheses.values()}
        # A sentence that occurred before would bring its own relations along.
        if len(sentences) == 4 and not seen & sentences and not any(sentence in held_out for sentence in sentences):
            seen |= sentences
            pairs += [(text, hypothesis, relation) for relation, hypothesis in hypotheses.items()]
    return pairs


def hypothesis_frames(premise: Frame, rng: Random) -> dict[Relation, Frame]:
    """Return a meaning for each relation to ``premise``."""
    implied, open_question = (more, less) if premise.negated else (less, more)
    neutral = open_question(premise, rng)
    if neutral == premise or rng.random() < 0.5:
        neutral = _about_something_else(premise, rng)
    return {
        "contradiction": negated(implied(premise, rng), rng),
        "neutral": neutral,
        "entailment": implied(premise, rng) if rng.random() < 0.7 else premise,
    }


def _about_something_else(premise: Frame, rng: Random) -> Frame:
    """Change the agent, the action or the object; in half of the cases agent and object trade places first."""
    core = (premise.agent, premise.action, premise.object)
    frame = swapped(premise, rng) if rng.random() < 0.5 else premise
    while (frame.agent, frame.action, frame.object) == core:
        frame = changed(frame, rng)
    return frame


def sentences_on_topics(held_out: Container[str]) -> list[tuple[str, str]]:
    """Return different sentences, English and Spanish, each with its topic, which is the group of its action.

    Args:
        held_out: sentences that must not occur.
    """
    rng = Random(TOPICS_SEED)
    topics: dict[str, str] = {}
    while len(topics) < SENTENCES:
        frame = random_frame(rng)
        sentence = render(frame, pick(rng, LANGUAGES)[0], rng)
        if sentence not in held_out:
            topics[sentence] = GROUPS[frame.action]
    return list(topics.items())


def rows() -> list[Row]:
    """Return all rows of the file, in its order and with :data:`COLUMNS`; the same in every process.

    No sentence of the dev and test pairs occurs in the inference pairs or among the topics.
    """
    splits = scored_pairs()
    held_out = frozenset(sentence for split in ("dev", "test") for pair in splits[split] for sentence in pair[:2])
    scored: list[Row] = [("demo", split, *pair, None) for split, pairs in splits.items() for pair in pairs]
    inference: list[Row] = [
        ("demo_nli", "train", premise, hypothesis, None, relation)
        for premise, hypothesis, relation in inference_pairs(held_out)
    ]
    topics: list[Row] = [
        ("demo_topics", "train", sentence, None, None, topic) for sentence, topic in sentences_on_topics(held_out)
    ]
    return [*scored, *inference, *topics]


def write(path: Path) -> None:
    """Write the rows to a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (list(column) for column in zip(*rows(), strict=True))
    table = pa.table(dict(zip(COLUMNS, columns, strict=True)))
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write(FILE)
