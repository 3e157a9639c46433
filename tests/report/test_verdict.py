"""The sentences of an answer: winners, ties, looks, too few seeds, and luck either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.answer import Answer, Comparison, Finalist, SeedScore, Selection, Soup, Verdict
from embedsweep.report.verdict import answer_lines, look_lines, seed_lines, selection_line, soup_lines, verdict_lines
from embedsweep.study.finals import open_finals
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import study_with_finals

METRIC = "dev/spearman_cosine"
LEVEL = 0.05 / 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finalist(trial: int, *scores: float) -> Finalist:
    trained = tuple(SeedScore(number, 1000 + number, score, None) for number, score in enumerate(scores))
    return Finalist(trial, trained, sum(scores) / len(scores), 0.01 if len(scores) > 1 else None, (0.65, 0.75))


def comparison(other: int, p: float, items: tuple[float, float] | None = (0.01, 0.03)) -> Comparison:
    return Comparison(other, 0.02, p, (0.01, 0.03), items)


WINNER = Verdict(
    metric=METRIC,
    seeds=5,
    look=5,
    level=LEVEL,
    best=7,
    winner=7,
    named_at=5,
    group=(7,),
    seeds_needed=None,
    finalists=(finalist(7, *[0.72] * 5), finalist(3, *[0.70] * 5)),
    comparisons=(comparison(3, 0.008),),
    missing=(),
)
TIE = replace(WINNER, winner=None, named_at=None, group=(7, 3), seeds_needed=10, comparisons=(comparison(3, 0.03),))
FEW = replace(
    TIE, seeds=3, look=0, finalists=(finalist(7, 0.7, 0.8, 0.9), finalist(3, 0.7, 0.6, 0.6)), seeds_needed=None
)


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (WINNER, "winner: trial 7 differs from trial 3 over seeds (looked at with 5 seeds each, each test at 0.0167)"),
        (
            WINNER,
            "trial 7 is above trial 3 by 0.0200 (p 0.008, 95 % interval over seeds 0.0100 to 0.0300, over dev items "
            "0.0100 to 0.0300)",
        ),
        (
            replace(WINNER, comparisons=(comparison(3, 0.008, (-0.01, 0.05)),)),
            "not certain over dev items: trial 3; on others it might be better (the interval contains 0)",
        ),
        (
            replace(WINNER, seeds=10, look=10),
            "winner: trial 7 differs from trial 3 over seeds (looked at with 10 seeds each, each test at 0.0167; named "
            "at 5, it stays)",
        ),
        (
            replace(WINNER, seeds=10, look=10, comparisons=(comparison(3, 0.03),)),
            "winner: trial 7 differs from trial 3 over seeds (looked at with 10 seeds each, each test at 0.0167; named "
            "at 5, it stays, although not every p is that small now)",
        ),
        (
            TIE,
            "cannot be told apart over seeds: trials 7 and 3 (looked at with 5 seeds each, each test at 0.0167); about "
            "10 seeds each would: study.finals.seeds=10",
        ),
        (
            replace(TIE, seeds_needed=None),
            "cannot be told apart over seeds: trials 7 and 3 (looked at with 5 seeds each, each test at 0.0167); at "
            "these means and spreads not even 20 seeds would tell them",
        ),
        (replace(TIE, seeds=7), "of 7 seeds the first 5 count; the next look is at 10"),
        (
            replace(WINNER, finalists=(WINNER.finalists[0], replace(WINNER.finalists[1], spread=0.0))),
            "trial 3 has the same score with every seed: seeds do not show how lucky such a score is",
        ),
        (
            FEW,
            "would trial 7 win again? Not tested: 3 seeds each reach p 0.1 at best, and 0.0167 is needed; the first "
            "look is at 5: study.finals.seeds=5",
        ),
        (
            replace(FEW, finalists=(finalist(7, 0.7), finalist(3, 0.6))),
            "would trial 7 win again? Not tested: one seed each reaches p 1 at best, and 0.0167 is needed; the first "
            "look is at 5: study.finals.seeds=5",
        ),
        (
            replace(WINNER, winner=None, finalists=WINNER.finalists[:1], comparisons=()),
            "one finalist has scores: there is nothing to compare it with",
        ),
        (
            replace(WINNER, missing=(2,)),
            "trial 2 is not compared: the trainings in the finals failed, or one forgets more than study.keep allows",
        ),
    ],
)
def test_a_verdict_in_words(verdict: Verdict, sentence: str) -> None:
    assert sentence in verdict_lines(Answer(verdict=verdict))


def test_without_a_doubt_none_is_said() -> None:
    printed = "\n".join(verdict_lines(Answer(verdict=WINNER)))
    assert not any(
        words in printed for words in ("not certain", "count", "not compared", "same score", "it stays", "not known")
    )


SOUP = Soup((0, 1), (0,), (0.7, 0.6), {}, {}, None, {}, "fewer than two models can be averaged")


def test_what_is_left_out_of_a_soup_is_said_with_the_reason() -> None:
    soup = replace(SOUP, left_out={2: "as model.pooling is cls", 3: "whose models", 4: "as model.pooling is cls"})
    assert soup_lines(soup, METRIC) == [
        "soup: none, fewer than two models can be averaged",
        "left out of the soup: finals 2 and 4, as model.pooling is cls",
        "left out of the soup: final 3, whose models",
    ]
    made = replace(soup, kept=(0, 1), dev={METRIC: 0.71}, reason=None)
    assert soup_lines(made, METRIC)[1:] == soup_lines(soup, METRIC)[1:]


@pytest.mark.usefixtures("folder")
def test_where_the_best_finalist_was_not_scored_on_test_it_is_said_whose_model_is_kept() -> None:
    study = study_with_finals()
    assert len(look_lines(study)) == 1
    answer = study.answer
    assert answer is not None
    assert answer.verdict is not None
    study.set_answer(replace(answer, verdict=replace(answer.verdict, best=0)))
    assert look_lines(study)[1] == (
        "no training of trial 0, the best of its finals, was scored on test; the model that is kept is a training of "
        "trial 1, the best before"
    )


def test_why_finals_have_no_verdict_is_said() -> None:
    answer = Answer(unknown={"verdict": "no training of the finals that counts has a score"})
    assert verdict_lines(answer) == ["finals: no training of the finals that counts has a score"]
    assert verdict_lines(Answer()) == []


@pytest.mark.parametrize(
    ("corrected", "words"),
    [(0.69, "scores 0.6900 on average (95 % interval 0.6000 to 0.8000), 0.0100 worse"), (0.71, "which is no worse")],
)
def test_luck_is_what_the_score_is_above_the_corrected_one(corrected: float, words: str) -> None:
    assert selection_line(Selection(7, 0.70, corrected, (0.6, 0.8), 20, 1999), METRIC).endswith(words)


@pytest.mark.parametrize(
    ("trial", "score", "said"),
    [
        (
            7,
            0.75,
            ["scored 0.7500 with the seed of the search; with 5 others it scores 0.7200 on average, 0.0300 worse"],
        ),
        (
            7,
            0.71,
            ["scored 0.7100 with the seed of the search; with 5 others it scores 0.7200 on average, which is no worse"],
        ),
        (9, 0.75, []),  # no finalist
    ],
)
def test_luck_of_the_seed_is_what_the_score_is_above_the_mean_of_the_finals(
    trial: int, score: float, said: list[str]
) -> None:
    answer = Answer(verdict=WINNER, selection=Selection(trial, score, 0.69, (0.6, 0.8), 20, 1999))
    assert seed_lines(answer) == [f"luck of the seed: trial {trial} {each}" for each in said]


def test_an_interval_of_fewer_resamples_is_called_rough() -> None:
    line = selection_line(Selection(7, 0.70, 0.69, (0.6, 0.8), 1000, 199), METRIC)
    assert "(95 % interval 0.6000 to 0.8000, roughly: of 199 resamples)" in line


@pytest.mark.usefixtures("folder")
def test_an_answer_that_more_seeds_may_change_says_so() -> None:
    assert not any("may change" in line for line in answer_lines(study_with_finals()))
    more = open_study(pass_sweep(("study.name=ranked", "study.finals.seeds=3")))
    assert open_finals(more) is not None
    assert answer_lines(more)[0] == "what follows may change: its finals are not over"
