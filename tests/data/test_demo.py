from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from embedsweep.config.trial import ConvertConfig
from embedsweep.data import demo, load_splits
from embedsweep.data.convert import convert
from embedsweep.data.demo_frames import GROUPS, random_frame
from embedsweep.data.demo_nli import hypothesis_frames
from embedsweep.data.demo_sentences import Frame, Language, render
from embedsweep.data.demo_words import COUNTS, MANNERS, NOUNS, PLACES, QUALITIES, TIMES, VERBS
from embedsweep.data.examples import Examples
from embedsweep.validation.single import pass_audit

SPLITS = demo.generate()
PAIRS = [pair for pairs in SPLITS.values() for pair in pairs]

FOLLOWS = Frame(agent="doctor", action="follow", object="teacher", place="park")

DIGEST = """
import hashlib
from embedsweep.data import demo
everything = (demo.generate(), demo.train_examples("demo_nli"), demo.train_examples("demo_topics"))
print(hashlib.sha256(repr(everything).encode()).hexdigest())
"""


def test_splits_are_large_enough() -> None:
    assert {split: len(pairs) for split, pairs in SPLITS.items()} == {"train": 8000, "dev": 800, "test": 800}


def test_every_process_generates_the_same() -> None:
    everything = (demo.generate(), demo.train_examples("demo_nli"), demo.train_examples("demo_topics"))
    here = hashlib.sha256(repr(everything).encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # not this process's own
    there = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_the_scored_pairs_stay_what_they_were() -> None:
    digest = "f130b3cfcd05fb5546aa41e1f60d3d7339f027d36e90308e94b80cb795608aaf"
    assert hashlib.sha256(repr(demo.generate()).encode()).hexdigest() == digest


def test_generating_leaves_the_global_random_state_alone() -> None:
    before = random.getstate()
    demo.generate.__wrapped__()
    assert random.getstate() == before


def test_no_pair_comes_twice_in_any_order_or_split() -> None:
    assert len({frozenset(pair[:2]) for pair in PAIRS}) == len(PAIRS)


def test_no_pair_is_one_sentence_twice() -> None:
    assert all(first != second for first, second, _ in PAIRS)


def test_sentences_are_well_formed() -> None:
    sentences = {sentence for pair in PAIRS for sentence in pair[:2]}
    assert len(sentences) > 10_000
    for sentence in sentences:
        assert sentence[0].isupper(), sentence
        assert sentence.endswith("."), sentence
        assert sentence == " ".join(sentence.split()), sentence
        assert 4 <= len(sentence.split()) <= 24, sentence


@pytest.mark.parametrize("wrong", [" a el ", " de el ", " the the ", "None"])
def test_sentences_have_no_slip(wrong: str) -> None:
    assert not [sentence for pair in PAIRS for sentence in pair[:2] if wrong in sentence]


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_scores_spread_over_the_whole_range(split: str) -> None:
    scores = [score for _, _, score in SPLITS[split]]
    assert min(scores) == 0.0
    assert max(scores) == 5.0
    for grade in range(5):
        share = sum(grade <= score < grade + 1 for score in scores) / len(scores)
        assert share >= 0.04, grade
    assert sum(score >= 4.0 for score in scores) / len(scores) >= 0.3


def test_each_language_and_both_together_come() -> None:
    def spanish(sentence: str) -> bool:
        return bool({"el", "la", "al"} & set(sentence.lower().split()))

    both = [(spanish(first), spanish(second)) for first, second, _ in SPLITS["train"]]
    shares = {kind: sum(kind == pair for pair in both) / len(both) for kind in set(both)}
    assert shares[False, False] > 0.3
    assert shares[True, True] > 0.3
    assert shares[True, False] + shares[False, True] > 0.2


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        pytest.param(FOLLOWS, 5.0, id="the same"),
        # action 3 + place 1.5 of 8.5
        pytest.param(replace(FOLLOWS, agent="teacher", object="doctor"), 2.6, id="who follows whom"),
        pytest.param(replace(FOLLOWS, negated=True), 2.5, id="negated"),
        # 7 of 8.5
        pytest.param(replace(FOLLOWS, place="hotel"), 4.1, id="another place"),
        # 7 + half of 1.5, of 8.5
        pytest.param(replace(FOLLOWS, place="garden"), 4.6, id="a related place"),
        # 7 of 7 + half of 1.5
        pytest.param(replace(FOLLOWS, place=None), 4.5, id="no place"),
        # 8.5 - 1 of 8.5
        pytest.param(replace(FOLLOWS, agent="nurse"), 4.4, id="a related agent"),
        # 8.5 - 1.5 of 8.5
        pytest.param(replace(FOLLOWS, action="look for"), 4.1, id="a related action"),
        # 5.5 of 8.5
        pytest.param(replace(FOLLOWS, action="help"), 3.2, id="another action"),
        # 8.5 of 8.5 + half of 1
        pytest.param(replace(FOLLOWS, time="tomorrow"), 4.7, id="also when"),
        pytest.param(Frame(agent="cook", action="buy", object="hat", place="shop"), 0.0, id="nothing in common"),
    ],
)
def test_score_is_the_share_of_meaning_in_common(other: Frame, expected: float) -> None:
    assert demo.score(FOLLOWS, other) == expected
    assert demo.score(other, FOLLOWS) == expected


def _all_renderings(frame: Frame, language: Language) -> set[str]:
    rng = random.Random(0)
    return {render(frame, language, rng) for _ in range(400)}


def test_the_same_words_can_mean_something_else() -> None:
    swapped = replace(FOLLOWS, agent="teacher", object="doctor")
    assert "The doctor followed the teacher in the park." in _all_renderings(FOLLOWS, "en")
    assert "The teacher followed the doctor in the park." in _all_renderings(swapped, "en")
    assert "El médico siguió al profesor en el parque." in _all_renderings(FOLLOWS, "es")
    assert "Al médico lo siguió el profesor en el parque." in _all_renderings(swapped, "es")


def test_the_same_meaning_has_many_sentences() -> None:
    assert "In the park, the instructor was pursued by the physician." in _all_renderings(FOLLOWS, "en")
    assert "Fue el doctor quien persiguió al maestro en el parque." in _all_renderings(FOLLOWS, "es")
    assert len(_all_renderings(FOLLOWS, "en")) >= 20
    assert len(_all_renderings(FOLLOWS, "es")) >= 20


@pytest.mark.parametrize(
    ("frame", "language", "sentence"),
    [
        (Frame("doctor", "look for", "cat", time="every day"), "en", "The doctor looks for the cat every day."),
        (Frame("doctor", "hide", "hat", negated=True), "en", "The hat was not hidden by the doctor."),
        (Frame("secretary", "write", "letter", count="two"), "en", "Two secretaries wrote the letter."),
        (
            Frame("dog", "eat", "cake", time="soon", negated=True),
            "en",
            "It is the dog that will not eat the cake soon.",
        ),
        (Frame("nurse", "break", "violin", trait="tired"), "es", "El violín fue roto por la enfermera cansada."),
        (Frame("girl", "hide", "wallet", time="tomorrow"), "es", "La cartera será escondida por la niña mañana."),
        (Frame("writer", "greet", "boss", count="several"), "es", "Varias escritoras saludaron a la jefa."),
        (Frame("driver", "prepare", "soup"), "es", "La sopa la hizo el conductor."),
        (Frame("actor", "read", "book", quality="old"), "es", "El libro viejo fue leído por el actor."),
        (
            Frame("singer", "find", "ring", count="two", time="soon"),
            "es",
            "Dos cantantes encontrarán el anillo pronto.",
        ),
    ],
)
def test_agreement_is_right(frame: Frame, language: Language, sentence: str) -> None:
    assert sentence in _all_renderings(frame, language)


def test_a_concept_is_named_in_one_table_only() -> None:
    tables = (NOUNS, VERBS, QUALITIES, PLACES, TIMES, MANNERS, COUNTS)
    concepts = [concept for table in tables for concept in table]
    assert len(concepts) == 125
    assert set(GROUPS) == set(concepts)
    assert len(GROUPS) == len(concepts)


HELD_OUT = {sentence for split in ("dev", "test") for pair in SPLITS[split] for sentence in pair[:2]}
INFERENCE = demo.train_examples("demo_nli")
TOPICS = demo.train_examples("demo_topics")


def _relation(premise: Frame, hypothesis: Frame) -> str:
    """What holds by the logic of the two meanings: a sentence implies what says less, its negation what says more."""

    def says_less(one: Frame, other: Frame) -> bool:
        left, right = vars(one).items(), vars(other)
        return all(value is None or value == right[part] for part, value in left if part != "negated")

    more, less = (hypothesis, premise) if premise.negated else (premise, hypothesis)
    if not says_less(less, more) or premise.time != hypothesis.time or premise.count != hypothesis.count:
        return "neutral"
    return "entailment" if premise.negated == hypothesis.negated else "contradiction"


def test_hypotheses_stand_to_their_premise_as_they_say() -> None:
    rng = random.Random(0)
    negated = 0
    for _ in range(2000):
        premise = random_frame(rng)
        negated += premise.negated
        frames = hypothesis_frames(premise, rng)
        assert {relation: _relation(premise, frame) for relation, frame in frames.items()} == {
            relation: relation for relation in ("contradiction", "neutral", "entailment")
        }, (premise, frames)
    assert negated > 200


def test_every_premise_has_one_hypothesis_of_each_relation() -> None:
    assert INFERENCE.classes == ("contradiction", "entailment", "neutral")
    assert INFERENCE.labels is not None
    groups: dict[str, list[float]] = {}
    for premise, label in zip(INFERENCE.texts[0], INFERENCE.labels, strict=True):
        groups.setdefault(premise, []).append(label)
    assert len(groups) == 1600
    assert {tuple(sorted(labels)) for labels in groups.values()} == {(0, 1, 2)}


def test_inference_pairs_become_two_triplets_a_premise() -> None:
    config = ConvertConfig(to=None, positive_threshold=0.8, both_directions=False, seed=42)
    assert len(convert(INFERENCE, "triplets", config, (0, 5))) == 3200


def test_a_not_does_not_tell_the_class() -> None:
    negations = {" not ", " no "}
    assert INFERENCE.labels is not None
    negated = [
        label
        for hypothesis, label in zip(INFERENCE.texts[1], INFERENCE.labels, strict=True)
        if any(word in f" {hypothesis.lower()}" for word in negations)
    ]
    for label in (0, 1, 2):
        assert 0.2 < negated.count(label) / len(negated) < 0.6, label


def test_topics_are_those_of_the_actions_each_with_many_sentences() -> None:
    assert TOPICS.classes == tuple(sorted({verb.group for verb in VERBS.values()}))
    assert TOPICS.labels is not None
    assert len(TOPICS.classes) == 12
    assert len(set(TOPICS.texts[0])) == len(TOPICS) == 4000
    counts = [TOPICS.labels.count(number) for number in range(12)]
    assert min(counts) > 200
    eaten = TOPICS.texts[0].index(next(text for text in TOPICS.texts[0] if " ate the " in text))
    assert TOPICS.classes[int(TOPICS.labels[eaten])] == "meals"


@pytest.mark.parametrize("examples", [INFERENCE, TOPICS], ids=["demo_nli", "demo_topics"])
def test_no_sentence_of_dev_or_test_is_trained_on(examples: Examples) -> None:
    assert not HELD_OUT & {text for column in examples.texts for text in column}


def test_the_scored_pairs_to_train_on_are_those_generated() -> None:
    train = demo.train_examples("demo")
    assert train.labels is not None
    pairs = [(a, b, round(5 * score, 1)) for a, b, score in zip(*train.texts, train.labels, strict=True)]
    assert pairs == SPLITS["train"]
    shared = HELD_OUT & {text for column in train.texts for text in column}
    assert not shared


@pytest.mark.parametrize("name", demo.DEMOS)
def test_each_demo_option_loads_with_the_same_dev_and_test(name: str) -> None:
    config = pass_audit([f"data={name}"])
    splits = load_splits(config.data, config.evaluation)
    assert splits.train.shape == config.data.shape == demo.DEMOS[name]  # type: ignore[index]
    assert list(splits.dev.sentences1) == [pair[0] for pair in SPLITS["dev"]]
    assert list(splits.test.sentences2) == [pair[1] for pair in SPLITS["test"]]
