"""``embedsweep show``, ``studies`` and ``diff`` over studies in all states, which they only read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.report.difference import difference
from embedsweep.study.duplicates import DUPLICATE
from embedsweep.study.leases import LEASE
from embedsweep.study.study import Study
from tests.report.studies import keep_scores, result, study_of, study_with_finals

SPEARMAN = "dev/spearman_cosine"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def running() -> Study:
    """Two complete trials, a failed, a pruned and a running one of seven."""
    complete = (result(0.5, interval=(0.4, 0.6), steps=8), result(0.7, interval=(0.65, 0.75), steps=16))
    curves = {SPEARMAN: [(4, 0.4), (8, 0.5)]}, {SPEARMAN: [(8, 0.6), (16, 0.7)]}
    trained = [replace(each, curve=curve) for each, curve in zip(complete, curves, strict=True)]
    study = study_of(*trained, "TrialError: [nan]", "pruned", name="night", words=("study.n_trials=7",), rates=8)
    keep_scores(study, (0.5, 0.2))
    assert study.ask() is not None
    return study


def files() -> Mapping[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in Path().rglob("*")}


@pytest.mark.parametrize(
    "words",
    ["show night", "show night --all", "show night --json=-", "show night --csv=-", "studies", "diff night 0 1"],
)
def test_a_study_that_runs_is_only_read(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    running()
    before = files()
    assert main(words.split()) == 0
    assert files() == before
    assert capsys.readouterr().out


def test_report_writes_one_page_beside_the_study_and_opens_it_if_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running()
    before, opened = files(), list[str]()

    def opens(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", opens)
    path = Path("sweeps/night/report/index.html")
    assert main(["report", "night"]) == 0
    assert capsys.readouterr().out == f"report: {path}\n"
    assert (set(files()) - set(before), opened) == ({path.parent, path}, [])
    assert main(["report", "night", "--open"]) == 0
    assert opened == [path.resolve().as_uri()]
    assert main(["report", "nigth"]) == 2
    assert "no such study" in capsys.readouterr().err


def test_report_writes_elsewhere_where_it_is_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_with_finals(name="held")
    (study.folder / "report").write_text("in the way")
    assert main(["report", "held"]) == 1
    assert "the report cannot be written into sweeps/held (File exists): give another place" in capsys.readouterr().err
    assert main(["report", "held", "--to", "page.html"]) == 0
    assert capsys.readouterr().out == "report: page.html\n"
    assert "<h1>held</h1>" in Path("page.html").read_text()
    assert main(["report", "held", "--to", "page.html"]) == 2
    assert "--to: page.html exists" in capsys.readouterr().err
    assert main(["report", "held/finals"]) == 2
    assert "held/finals: is the finals of study held, whose report has them" in capsys.readouterr().err


def test_show_prints_the_ranking_and_the_best_trial(capsys: pytest.CaptureFixture[str]) -> None:
    running()
    assert main(["show", "night"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 of 7 trials finished; running"
    assert lines[2] == "study night: 2 complete, 1 pruned, 1 failed, 1 running"
    assert lines[5].split() == ["1", "1", "0.7000", "0.6500", "to", "0.7500", "1s", "2", "10"]
    assert lines[6].strip() == "lr=0.0002"
    assert "trial 2 failed: TrialError: [nan]" in lines
    assert f"best: trial 1, {SPEARMAN} 0.7000 (95 % interval over dev items 0.6500 to 0.7500, one seed)" in lines
    assert "trial 1 is better than trial 0 on other dev items, too, as far as these ones show" in lines
    assert main(["show", "night", "--all"]) == 0
    assert ["4", "RUNNING", "-", "lr=0.0005"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("word", ["night/", "sweeps/night", "./sweeps/night/", "{folder}/sweeps/night"])
@pytest.mark.parametrize("words", ["show STUDY", "report STUDY", "diff STUDY 0 1", "repair STUDY"])
def test_a_study_is_also_named_by_its_folder(
    word: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_of(0.5, 0.6, name="night")
    code, named = main(words.replace("STUDY", "night").split()), capsys.readouterr().out
    assert main(words.replace("STUDY", word.format(folder=tmp_path)).split()) == code
    assert capsys.readouterr().out == named != ""


def test_finals_point_to_the_study_that_has_their_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    study_with_finals(name="held")
    line = "each seed is a row of its own here; what the finals decided: embedsweep show held"
    for name, is_there in (("held/finals", True), ("sweeps/held/finals/", True), ("held", False)):
        assert main(["show", name]) == 0
        assert (line in capsys.readouterr().out.splitlines()) == is_there


def test_show_of_a_study_without_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    study_of(name="new", words=("study.n_trials=2",), rates=2)
    assert main(["show", "new"]) == 0
    state = "0 of 2 trials finished; not running; embedsweep train -m study.name=new resumes it"
    assert capsys.readouterr().out.splitlines() == [state, "", "study new: no trials", "no trial is complete"]


def test_json_holds_every_trial_with_its_interval_and_the_differences(capsys: pytest.CaptureFixture[str]) -> None:
    running()
    assert main(["show", "night", "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["study"], tree["state"], tree["n_trials"], tree["best"]) == ("night", "running", 7, 1)
    assert [trial["state"] for trial in tree["trials"]] == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "RUNNING"]
    assert [trial["interval"] for trial in tree["trials"]] == [[0.4, 0.6], [0.65, 0.75], None, None, None]
    assert [trial["values"] for trial in tree["trials"]][:2] == [{"optimizer.lr": 1e-4}, {"optimizer.lr": 2e-4}]
    assert (list(tree["differences"]), tree["undecided"]) == (["0"], [])
    assert tree["differences"]["0"][0] > 0
    assert main(["show", "night", "--json", "results.json"]) == 0
    assert json.loads(Path("results.json").read_text(encoding="utf-8")) == tree
    assert "written to results.json" in capsys.readouterr().out


def test_csv_has_a_row_for_each_trial(capsys: pytest.CaptureFixture[str]) -> None:
    running()
    assert main(["show", "night", "--csv", "-"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [(row["optimizer.lr"], row[SPEARMAN], row["low"], row["high"]) for row in rows[:2]] == [
        ("0.0001", "0.5", "0.4", "0.6"),
        ("0.0002", "0.7", "0.65", "0.75"),
    ]
    assert rows[2]["reason"] == "TrialError: [nan]"
    Path("kept.csv").touch()
    assert main(["show", "night", "--csv", "kept.csv"]) == 2
    assert "kept.csv exists" in capsys.readouterr().err
    assert Path("kept.csv").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "nigth"], "nigth: no such study (did you mean night?); there are: night"),
        (["diff", "nigth", "0", "1"], "nigth: no such study (did you mean night?); there are: night"),
        (["show"], "STUDY: is missing: embedsweep show STUDY [options]"),
        (["show", "night", "--csv", "-", "--json", "-"], "--json: only one of --csv and --json can be -"),
        (["show", "night", "--csv", "no/where.csv"], "--csv: there is no folder"),
        (["diff", "night", "0", "7"], "TRIAL: no trial 7: study night has 5, from 0"),
        (["diff", "night", "1", "1"], "TRIAL: give two different trials, but got 1 twice"),
        (["diff", "night", "one", "2"], "TRIAL: must be the number of a trial, but got one"),
        (["diff", "night", "1"], "TRIAL: is missing: embedsweep diff STUDY TRIAL TRIAL"),
        (["studies", "night"], "night: unexpected argument: embedsweep studies"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_the_arguments_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running()
    assert main(words) == 2
    printed = capsys.readouterr()
    assert f"  {message}" in printed.err
    assert printed.out == ""


def test_studies_are_listed_with_their_state_the_last_changed_first(capsys: pytest.CaptureFixture[str]) -> None:
    study_of(0.5, name="stopped", words=("study.n_trials=3",), rates=4)
    study_of(0.25, "no", name="done")
    elsewhere = study_of(name="elsewhere", words=("study.n_trials=2",), rates=3)
    trial = elsewhere.ask()
    assert trial is not None
    lease = {**elsewhere.trials[0].user_attrs[LEASE], "system": "another"}
    elsewhere._open[0].set_user_attr(LEASE, lease)
    running()
    Path("sweeps/broken").mkdir()
    Path("sweeps/broken/study.yaml").write_text("{", encoding="utf-8")
    assert main(["studies"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["study", "state", "trials", "best", "objective", "changed"]
    assert [line.split()[:-2] for line in lines[:4]] == [
        ["night", "running", "4", "of", "7,", "1", "failed", "0.7000", SPEARMAN],
        ["elsewhere", "unknown", "0", "of", "2", "-", SPEARMAN],
        ["done", "complete", "2", "of", "2,", "1", "failed", "0.2500", SPEARMAN],
        ["stopped", "not", "running", "1", "of", "3", "0.5000", SPEARMAN],
    ]
    assert lines[0].endswith("s ago")
    assert lines[4].startswith("study broken cannot be read: ")
    assert len(lines) == 5


def test_without_studies_the_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies"]) == 0
    assert capsys.readouterr().out == f"no studies in {Path('sweeps').resolve()}\n"


def test_diff_shows_what_differs_and_both_curves(capsys: pytest.CaptureFixture[str]) -> None:
    running()
    assert main(["diff", "night", "0", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines]
    assert cells[0] == ["trial", "0", "trial", "1"]
    assert [SPEARMAN, "0.5000", "0.7000"] in cells
    assert ["steps", "8", "16"] in cells
    assert ["optimizer.lr", "0.0001", "0.0002"] in cells
    assert not any(line.startswith("trainer.") for line in lines)
    assert any(
        line.startswith("trial 1 is 0.2000 above trial 0 (certain as far as dev items go: 95 % interval")
        for line in lines
    )
    steps = [each for each in cells if each and each[0] in ("4", "8", "16")]
    assert [each[:-1] for each in steps] == [["4", "0.4000"], ["8", "0.5000", "0.6000"], ["16", "0.7000"]]
    # of 32 places from 0.4 to 0.7
    assert [(each[-1].find("a"), each[-1].find("b")) for each in steps] == [(0, -1), (10, 21), (-1, 31)]


def test_diff_compares_the_items_of_the_trial_whose_scores_are_reused() -> None:
    study = study_of(0.5, 0.6, 0.6, rates=4)
    keep_scores(study, (0.9, 0.2))
    study.trials[2].user_attrs[DUPLICATE] = {"original": 1, "replicate": None}
    verdict = next(line for line in difference(study, 0, 2) if line.startswith("trial 2 is"))
    assert verdict.startswith("trial 2 is 0.1000 above trial 0 (certain as far as dev items go")


def test_diff_of_trials_that_are_not_complete_shows_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    running()
    assert main(["diff", "night", "2", "4"]) == 0
    printed = capsys.readouterr().out
    assert ["state", "FAIL", "RUNNING"] in [line.split() for line in printed.splitlines()]
    assert "above" not in printed
    assert SPEARMAN not in printed
