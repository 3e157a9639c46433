"""The report of studies in all states as HTML: its sections, what is safe in it, what agrees with other views."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from embedsweep.evaluation.scores import write_scores
from embedsweep.report.costs import study_costs, total_cost
from embedsweep.report.export import tree_of
from embedsweep.report.page.build import html_of, sections_of, write_report
from embedsweep.report.page.content import Section
from embedsweep.report.page.first import first_screen
from embedsweep.report.results import study_results
from embedsweep.report.verdict import verdict_lines
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from embedsweep.validation.sweep import pass_sweep
from tests.report.page.studies import ANSWER, SPEARMAN, trained, whole_study
from tests.report.studies import finish, result, scored_items, study_of, study_with_finals

CHARTS = {
    "finals": 1,
    "ranking": 1,
    "options": 1,
    "history": 1,
    "curves": 1,
    "importance": 0,
    "parallel": 1,
    "slices": 3,
    "emissions": 1,
    "items": 1,
    "luck": 0,
    "failed": 0,
    "audit": 0,
    "cost": 0,
    "reproduce": 0,
}
"""Section -> its charts, of the study with everything: of its six trials of a loss, too few say what is important."""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_command_that_searches_the_same_again_has_the_plan_and_another_name() -> None:
    words = ["study.name=first", "optimizer.lr=tag(log,interval(1e-5,1e-3))", "loss=mnrl,cosent", "study.n_trials=3"]
    sweep = pass_sweep([*words, "study.enqueue=[{loss: mnrl}]"])
    study = open_study(sweep)
    commands = section(sections_of(study_results(study), "embedsweep train"), "reproduce").commands
    assert commands is not None
    program, verb, flag, *again = shlex.split(commands["Searches the same again, as another study"])
    assert (program, verb, flag) == ("embedsweep", "train", "-m")
    repeated = pass_sweep(again)
    assert (repeated.plan, repeated.n_trials) == (sweep.plan, 3)
    assert repeated.study.name == "first-again"


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def section(sections: list[Section], name: str) -> Section:
    return next(each for each in sections if each.id == name)


def test_every_section_is_there_with_its_charts() -> None:
    study = whole_study()
    study.set_answer(ANSWER)
    results = study_results(study)
    sections = sections_of(results, "embedsweep train")
    assert {each.id: len(each.charts) for each in sections} == CHARTS
    page = html_of(results, "embedsweep train")
    ids = {attributes.get("id") for _, attributes in Page(page).tags}
    assert {*CHARTS, "answer"} <= ids
    assert len(re.findall(r"data-chart=\"\d+\"", page)) == sum(CHARTS.values())


def test_what_people_wrote_is_escaped_and_secrets_are_masked() -> None:
    page = html_of(study_results(whole_study()), "embedsweep train")
    tags = Page(page).tags
    assert [tag for tag, _ in tags].count("script") == 3  # figures, plotly.js, the page's own
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert "img" not in [tag for tag, _ in tags]
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    assert "hunter2secret" not in page


def test_nothing_comes_from_elsewhere_and_only_these_scripts_run() -> None:
    page = html_of(study_results(whole_study()), "embedsweep train")
    tags = Page(page).tags
    links = [value for _, attributes in tags for name, value in attributes.items() if name in ("href", "src")]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv") is not None)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes


def test_the_first_screen_says_what_other_views_say() -> None:
    results = study_results(whole_study())
    page = html_of(results, "embedsweep train")
    screen = page[page.index('id="answer"') : page.index("<nav")]
    assert "Best so far: trial 1, loss=mnrl lr=0.0001 warmup=0.1" in screen
    assert f"{SPEARMAN} 0.7200 (95 % interval 0.6900 to 0.7400), with one seed" in screen
    assert "11 of 12 trials finished (9 complete, 1 pruned, 1 failed)" in screen
    assert str(escape(total_cost(study_costs(results)))) in screen
    assert re.search(
        r"embedsweep train study\.pruner=median loss=mnrl optimizer\.lr=0\.0001 optimizer\.warmup=0\.1", screen
    )


def test_with_finals_the_first_screen_has_the_finalists_mean_and_the_verdict() -> None:
    study = whole_study()
    study.set_answer(ANSWER)
    page = html_of(study_results(study), "embedsweep train")
    screen = page[page.index('id="answer"') : page.index("<nav")]
    assert "Best so far: trial 4" in screen
    assert f"{SPEARMAN} 0.7122 ± 0.0100 over 5 other seeds (95 % interval 0.6922 to 0.7322)" in screen
    decided = verdict_lines(ANSWER)[2:]  # the first ones are on each finalist
    assert len(decided) == 2
    assert all(html.escape(line) in screen for line in decided)


def test_test_has_its_interval_with_one_seed_and_over_those_of_finals() -> None:
    study = study_of(0.5, 0.7, name="tested")
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.66}, {}, {}, 2, None, (0.61, 0.71)))
    results = study_results(study)
    assert first_screen(results, "e").facts["Test"] == [
        "test/spearman_cosine 0.6600 (95 % interval 0.6100 to 0.7100), with one seed"
    ]
    assert tree_of(results)["test_interval"] == (0.61, 0.71)
    held = study_with_finals()
    assert held.finals_test is not None
    held.set_finals_test(replace(held.finals_test, interval=(0.55, 0.65)))
    over = "over 2 seeds (0.6000 to 0.6000; 95 % interval over test items 0.5500 to 0.6500)"
    assert first_screen(study_results(held), "e").facts["Test"] == [
        f"test/spearman_cosine of trial 1: mean 0.6000 {over}"
    ]


def test_it_computes_no_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the items are resampled")

    study = whole_study()
    monkeypatch.setattr("embedsweep.evaluation.scores.resampled", refuse)
    assert "how certain these differences are: embedsweep show whole" in html_of(study_results(study), "e")
    study.keep_differences(1, 9, {4: (-0.01, 0.02), 8: (0.004, 0.03)})
    page = html_of(study_results(study), "e")
    assert "cannot be told apart from trial 1: trial 4" in page
    study.keep_differences(1, 9, {4: (-0.01, 0.02), 0: None})
    write_scores(study.trial_folder(0), scored_items(0.3))
    assert "not compared with trial 1: trial 0" in html_of(study_results(study), "e")


def test_differences_that_were_kept_hold_until_another_trial_is_complete() -> None:
    study = study_of(0.5, 0.7, name="kept", words=("study.n_trials=3",), rates=3)
    study.keep_differences(1, 2, {0: (0.1, 0.2)})
    assert study_results(study).differences == {0: (0.1, 0.2)}
    finish(study, [0.6])
    assert study_results(study).differences == {2: None, 0: None}  # whose items have no scores here


@pytest.mark.parametrize(
    ("outcomes", "words", "headline"),
    [
        ((), ("study.n_trials=2",), "No best configuration yet: no trial is complete"),
        (("TrialError: no", "TrialError: no"), (), "No best configuration yet: no trial is complete"),
        (("pruned",), (), "No best configuration yet: no trial is complete"),
        ((0.5,), (), "Best: trial 0, lr=0.0001"),
        ((0.5, 0.7), ("study.objective=[dev/spearman_cosine,emissions/co2eq_kg]",), "Best: trial 1, lr=0.0002"),
        ((0.5, 0.7), ("study.n_trials=4",), "Best so far: trial 1, lr=0.0002"),
    ],
    ids=["empty", "failed", "pruned", "single", "two objectives", "not finished"],
)
def test_studies_in_all_states_have_a_report(
    outcomes: tuple[float | str, ...], words: tuple[str, ...], headline: str
) -> None:
    study = study_of(*outcomes, name="state", words=words, rates=4)
    assert f">{headline}" in html_of(study_results(study), "embedsweep train")


def test_a_score_that_was_nan_leaves_a_gap() -> None:
    unsound = replace(trained(0.5), curve={SPEARMAN: [(10, float("nan")), (20, 0.5)]})
    page = html_of(study_results(study_of(unsound, trained(0.4), name="unsound")), "e")
    assert '"y":[null,0.5,null]' in page


def test_the_report_lies_in_the_studys_folder() -> None:
    study: Study = finish(open_study(pass_sweep(["study.name=placed", "optimizer.lr=1e-4,1e-3"])), [result(0.5)])
    path = write_report(study_results(study), "embedsweep train")
    assert path == Path("sweeps/placed/report/index.html")
    assert path.stat().st_size < 6e6
