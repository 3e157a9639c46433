"""The generator of the demo data: its grammar, its scores, and that it makes exactly the file that is shipped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tools.demo import retrieval
from tools.demo.frames import GROUPS, random_frame
from tools.demo.generate import COLUMNS, hypothesis_frames, rows, score
from tools.demo.sentences import Frame, Language, render
from tools.demo.words import COUNTS, MANNERS, NOUNS, PLACES, QUALITIES, TIMES, VERBS

from embedsweep.data.demo import FILE, RETRIEVAL_FILE

FOLLOWS = Frame(agent="doctor", action="follow", object="teacher", place="park")


def test_the_generator_makes_exactly_the_shipped_file(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tools.demo.generate import write\n"
        f"write(Path({str(tmp_path / 'demo.parquet')!r}))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # another than this process's
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=Path(__file__).parents[2], check=True)
    for path in (FILE, tmp_path / "demo.parquet"):
        columns = pq.read_table(path).to_pydict()
        assert tuple(columns) == COLUMNS
        assert list(zip(*columns.values(), strict=True)) == rows(), path
    assert len(rows()) == 18_400


def test_the_shipped_questions_and_passages_are_those_written_here(tmp_path: Path) -> None:
    retrieval.write(tmp_path / "demo_retrieval.parquet")
    for path in (RETRIEVAL_FILE, tmp_path / "demo_retrieval.parquet"):
        columns = pq.read_table(path).to_pydict()
        assert tuple(columns) == retrieval.COLUMNS
        assert list(zip(*columns.values(), strict=True)) == retrieval.rows(), path


def test_generating_keeps_the_global_random_state() -> None:
    before = random.getstate()
    rows()
    assert random.getstate() == before


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
    assert score(FOLLOWS, other) == expected
    assert score(other, FOLLOWS) == expected


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


def _relation(premise: Frame, hypothesis: Frame) -> str:
    """What holds by the logic of the two meanings: a sentence implies what says less, its negation what says more."""

    def says_less(one: Frame, other: Frame) -> bool:
        left, right = vars(one).items(), vars(other)
        return all(value is None or value == right[part] for part, value in left if part != "negated")

    more, less = (hypothesis, premise) if premise.negated else (premise, hypothesis)
    if not says_less(less, more) or premise.time != hypothesis.time or premise.count != hypothesis.count:
        return "neutral"
    return "entailment" if premise.negated == hypothesis.negated else "contradiction"


def test_hypotheses_have_the_stated_relation_to_their_premise() -> None:
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
