"""The demo data as it is shipped: sizes, scores, classes, and that none of its rows ever changes."""

from __future__ import annotations

import hashlib

import pytest
from tools.demo.words import VERBS

from embedsweep.config.trial import SPLITS, ConvertConfig, Split
from embedsweep.data.convert import convert
from embedsweep.data.demo import DEMOS, DemoName, demo_examples, demo_judged
from embedsweep.data.examples import Examples, as_examples
from embedsweep.data.load import load_retrieval, load_splits, load_train
from embedsweep.validation.single import pass_audit
from tests.demo_pairs import demo_pairs

PAIRS_OF = {split: demo_pairs(split) for split in SPLITS}
PAIRS = [pair for pairs in PAIRS_OF.values() for pair in pairs]


def test_splits_are_large_enough() -> None:
    assert {split: len(pairs) for split, pairs in PAIRS_OF.items()} == {"train": 8000, "dev": 800, "test": 800}


def test_the_scored_pairs_never_change() -> None:
    digest = "f130b3cfcd05fb5546aa41e1f60d3d7339f027d36e90308e94b80cb795608aaf"
    assert hashlib.sha256(repr(PAIRS_OF).encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("demo", "d5f9880d7b65af2c59394b168165db13d3369e104efac1ee063a05fc43893f48"),
        ("demo_nli", "ef79b11f40972f6845244119f9d9b28714b1ee5691030a0f9a25f0e5fdc86954"),
        ("demo_retrieval", "4c12bb2e33b5d2b9d38fe771abe2b777b755b24f481295695473475b0555c091"),
        ("demo_topics", "e20d5ae4ecdd3c075089435697da038114f042a64606bdc4cb70b8811d69a134"),
    ],
)
def test_training_examples_never_change(name: DemoName, digest: str) -> None:
    assert hashlib.sha256(repr(demo_examples(name, "train")).encode()).hexdigest() == digest


def test_no_pair_is_repeated_in_any_order_or_split() -> None:
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


@pytest.mark.parametrize("split", SPLITS)
def test_scores_spread_over_the_whole_range(split: Split) -> None:
    scores = [score for _, _, score in PAIRS_OF[split]]
    assert min(scores) == 0.0
    assert max(scores) == 5.0
    for grade in range(5):
        share = sum(grade <= score < grade + 1 for score in scores) / len(scores)
        assert share >= 0.04, grade
    assert sum(score >= 4.0 for score in scores) / len(scores) >= 0.3


def test_each_language_and_both_together_come() -> None:
    def spanish(sentence: str) -> bool:
        return bool({"el", "la", "al"} & set(sentence.lower().split()))

    both = [(spanish(first), spanish(second)) for first, second, _ in PAIRS_OF["train"]]
    shares = {kind: sum(kind == pair for pair in both) / len(both) for kind in set(both)}
    assert shares[False, False] > 0.3
    assert shares[True, True] > 0.3
    assert shares[True, False] + shares[False, True] > 0.2


HELD_OUT = {sentence for split in ("dev", "test") for pair in PAIRS_OF[split] for sentence in pair[:2]}
INFERENCE = demo_examples("demo_nli", "train")
TOPICS = demo_examples("demo_topics", "train")


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


def test_no_sentence_of_dev_or_test_is_in_the_scored_training_pairs() -> None:
    assert not HELD_OUT & {sentence for pair in PAIRS_OF["train"] for sentence in pair[:2]}


@pytest.mark.parametrize("name", DEMOS)
def test_each_demo_option_loads_with_the_same_dev_and_test(name: DemoName) -> None:
    config = pass_audit([f"data={name}"])
    splits = load_splits(config.data, config.evaluation)
    assert splits.train.shape == config.data.shape == DEMOS[name]
    assert list(as_examples(splits.dev).texts[0]) == [pair[0] for pair in PAIRS_OF["dev"]]
    assert list(as_examples(splits.test).texts[1]) == [pair[1] for pair in PAIRS_OF["test"]]


SEARCHED = {split: demo_judged(split, titles=False).retrieval for split in SPLITS}


def test_questions_are_split_and_the_passages_of_all_are_searched() -> None:
    assert {split: len(retrieval) for split, retrieval in SEARCHED.items()} == {"train": 24, "dev": 8, "test": 8}
    assert {len(retrieval.documents) for retrieval in SEARCHED.values()} == {60}
    assert len({retrieval.documents for retrieval in SEARCHED.values()}) == 1
    assert len({query for retrieval in SEARCHED.values() for query in retrieval.queries}) == 40


@pytest.mark.parametrize("split", SPLITS)
def test_each_question_has_passages_that_answer_it_and_some_that_do_not(split: Split) -> None:
    grades = {relevance for judged in SEARCHED[split].relevant.values() for relevance in judged.values()}
    assert grades == {0.0, 1.0, 2.0}
    for judged in SEARCHED[split].relevant.values():
        assert {0.0, 2.0} <= set(judged.values())


def test_no_passage_is_relevant_in_two_splits() -> None:
    relevant = [{passage for _, passage in retrieval.relevant_pairs} for retrieval in SEARCHED.values()]
    assert sum(map(len, relevant)) == len(set().union(*relevant))


def test_passages_have_titles() -> None:
    documents = demo_judged("dev", titles=True).retrieval.documents
    assert documents[0] == f"Norway {SEARCHED['dev'].documents[0]}"
    config = pass_audit(["data=demo_retrieval", "data.titles=true"])
    assert load_retrieval(config.data, "dev").documents == documents
    assert load_train(config.data).texts[1][0] == documents[0]
