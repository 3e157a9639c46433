"""Shell completion: the words offered for a command line, and what bash makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import embedsweep
from embedsweep.cli import VERBS, main
from embedsweep.commands.completion import candidates, script
from embedsweep.config.compose import shipped_conf
from embedsweep.errors import ConfigError

RUN = "a1b2c3d4" + "0" * 24
STORED = "bbbbbb" + "1" * 26
LOSSES = sorted(path.stem for path in (shipped_conf() / "loss").glob("*.yaml"))
BENCHMARKS = sorted(path.stem for path in (shipped_conf() / "benchmark").glob("sts20*.yaml"))


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a study, a single run, and a run whose model is in MLflow's store only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "sweeps" / "night").mkdir(parents=True)
    (tmp_path / "sweeps" / "night" / "study.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / "sweeps" / "single" / RUN / "model").mkdir(parents=True)
    (tmp_path / "mlruns" / "artifacts" / "night" / STORED / "artifacts" / "model").mkdir(parents=True)
    return tmp_path


def _offered(line: str) -> list[str]:
    return candidates(line, VERBS)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("embedsweep ", sorted([*VERBS, "--help", "--version"])),
        ("embedsweep s", ["show", "similarity", "stop", "studies", "sync"]),
        ("/usr/bin/embedsweep train lo", ["loss.", "loss="]),
        ("python train.py lo", ["loss.", "loss="]),
        ("python3 ./train.py lo", ["loss.", "loss="]),
        ("embedsweep train loss=", [f"loss={name}" for name in LOSSES]),
        ("embedsweep train -m loss=mnrl,cosi", ["loss=mnrl,cosine"]),
        ("embedsweep train loss=mnrl loss.", ["loss.scale="]),
        ("embedsweep train loss=contrastive,mnrl loss.mar", ["loss.margin="]),
        ("embedsweep train loss=bogus loss.", ["loss.scale="]),
        ("embedsweep train trainer.early_stopping.m", ["trainer.early_stopping.min_delta="]),
        ("embedsweep train data.drop_leaked=", ["data.drop_leaked=false", "data.drop_leaked=true"]),
        ("embedsweep train study.sampler=q", ["study.sampler=qmc"]),
        ("embedsweep train model.pooling=me", ["model.pooling=mean", "model.pooling=mean_sqrt_len_tokens"]),
        ("embedsweep train optimizer.weight_decay=", ["optimizer.weight_decay=0.01"]),
        ("embedsweep train optimizer.lr=", []),
        ("embedsweep train data.path=", []),  # a folder: the shell's own completion
        ("embedsweep train model=pretrained model.path=n", []),
        ("embedsweep train loss=matryoshka loss@loss.inner=cosi", ["loss@loss.inner=cosine"]),
        ("embedsweep train --help trainer.ep", ["trainer.epochs"]),
        ("embedsweep train study.name=", ["study.name=night"]),
        ("embedsweep train resume=", [f"resume={RUN}"]),
        ("embedsweep train --mu", ["--multirun"]),
        ("embedsweep audit data=cs", ["data=csv"]),
        ("embedsweep evaluate ", sorted([RUN, STORED, "night"])),
        ("embedsweep evaluate night bbb", [STORED]),
        ("embedsweep evaluate night --benchmark sts20", BENCHMARKS),
        ("embedsweep evaluate night --benchmark sts2017-es sts20", BENCHMARKS),
        ("embedsweep evaluate night --similarity ", ["cosine", "euclidean"]),
        ("embedsweep evaluate night --similarity=e", ["--similarity=euclidean"]),
        ("embedsweep encode --normalize n", ["night"]),
        ("embedsweep encode night ", []),  # a file: the shell's own completion
        ("embedsweep encode night --out ", []),
        ("embedsweep encode night --no", ["--normalize"]),
        ("embedsweep publish --to here n", ["night"]),
        ("embedsweep sync --study ", ["night"]),
        ("embedsweep ui --p", ["--port"]),
        ("embedsweep show ", ["night"]),
        ("embedsweep show night ", []),
        ("embedsweep show night --a", ["--all"]),
        ("embedsweep diff n", ["night"]),
        ("embedsweep diff night 3 ", []),
        ("embedsweep repair n", ["night"]),
        ("embedsweep studies ", []),
        ("embedsweep bogus ", []),
        ("embedsweep train 'loss=(", []),
    ],
)
def test_words_that_can_stand_at_the_cursor_are_offered(line: str, offered: list[str]) -> None:
    assert len(LOSSES) > 20
    assert len(BENCHMARKS) == 3
    assert _offered(line) == offered


def test_options_of_the_users_own_are_offered() -> None:
    Path("conf/loss").mkdir(parents=True)
    Path("conf/loss/mine.yaml").write_text("name: mnrl\nscale: 50.0\n", encoding="utf-8")
    assert _offered("embedsweep train loss=mi") == ["loss=mine"]


def test_a_broken_configuration_offers_nothing_and_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("conf/optimizer").mkdir(parents=True)
    Path("conf/optimizer/adamw.yaml").write_text("defaults: [\n", encoding="utf-8")
    monkeypatch.setenv("COMP_LINE", "embedsweep train optimizer.")
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr() == ("\n", "")


def test_words_after_the_cursor_do_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", "embedsweep tra loss=mnrl")
    monkeypatch.setenv("COMP_POINT", "14")
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out == "train\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_installed_and_removed_for_one_command(shell: str) -> None:
    installed = script(f"install={shell}", "embedsweep")
    assert f"-sc query={shell}" in installed
    assert "_embedsweep_complete" in script(f"uninstall={shell}", "embedsweep")
    assert "PROGRAM" not in installed + script(f"uninstall={shell}", "embedsweep")
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=installed, text=True, check=True)


@pytest.mark.parametrize("request_", ["install=tcsh", "remove=bash", ""])
def test_another_shell_is_refused_with_the_known_ones(request_: str) -> None:
    with pytest.raises(ConfigError, match="must be one of install=bash"):
        script(request_, "embedsweep")


def test_zsh_completes_a_folder_as_the_value_of_a_key(workplace: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (workplace / "my_pairs").mkdir()
    (workplace / "completion").write_text(script("install=zsh", "embedsweep"), encoding="utf-8")
    # The program offers nothing, as where any value can follow; it prints what was typed for train. The words that
    # are waited for are not in what is typed, which a terminal shows, too.
    commands = """
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'unsetopt zle_bracketed_paste; autoload -Uz compinit && compinit -u -D'
        zpty -w shell 'embedsweep() { [[ $1 != train ]] || print -r -- "typed: $*" }; source ./completion'
        zpty -w shell 'print re""ady'
        zpty -r -m shell output '*ready*'
        zpty -w shell $'embedsweep train data.path=my_\\t loss=mnrl'
        zpty -w shell 'print do""ne'
        zpty -r -m shell output '*done*'
        print -r -- "$output"
    """
    done = subprocess.run(
        ["zsh", "-f", "-c", commands], cwd=workplace, capture_output=True, text=True, timeout=60, check=True
    )
    assert "typed: train data.path=my_pairs loss=mnrl" in done.stdout


def _complete_in_bash(workplace: Path, line: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """What bash offers for a line that it has split into ``words``, by the script that the program installs."""
    program = workplace / "bin" / "embedsweep"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m embedsweep "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    commands = (
        'eval "$(embedsweep -sc install=bash)"\n'
        'complete -p embedsweep | grep -q -- "-F _embedsweep_complete" || exit 1\n'
        'COMP_LINE=$1 COMP_POINT=${#1}; shift\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n'
        "_embedsweep_complete\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    source = str(Path(embedsweep.__file__).parents[1])
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": source}
    return subprocess.run(
        ["bash", "-c", commands, "bash", line, *words],
        cwd=workplace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize(
    ("line", "words", "offered"),
    [
        ("embedsweep ev", ["embedsweep", "ev"], ["evaluate"]),
        # bash splits at =, and replaces the part behind it
        ("embedsweep train loss=", ["embedsweep", "train", "loss", "="], LOSSES),
        ("embedsweep train loss=mnr", ["embedsweep", "train", "loss", "=", "mnr"], ["mnrl", "mnrl_symmetric"]),
        ("embedsweep train loss=mnr", ["embedsweep", "train", "loss=mnr"], ["loss=mnrl", "loss=mnrl_symmetric"]),
        (
            "embedsweep train loss=mnrl loss.s",
            ["embedsweep", "train", "loss", "=", "mnrl", "loss.s"],
            ["loss.scale="],
        ),
        ("embedsweep encode n", ["embedsweep", "encode", "n"], ["night"]),
        ("embedsweep encode night t", ["embedsweep", "encode", "night", "t"], [""]),
        ("embedsweep bogus x", ["embedsweep", "bogus", "x"], [""]),
    ],
)
def test_bash_offers_the_words_and_prints_no_error(
    workplace: Path, line: str, words: list[str], offered: list[str]
) -> None:
    done = _complete_in_bash(workplace, line, words)
    assert (done.stdout.splitlines(), done.stderr) == (offered, "")


def test_a_program_that_fails_offers_nothing_and_prints_no_error(workplace: Path) -> None:
    (workplace / "conf" / "optimizer").mkdir(parents=True)
    (workplace / "conf" / "optimizer" / "adamw.yaml").write_text("defaults: [\n", encoding="utf-8")
    done = _complete_in_bash(workplace, "embedsweep train opt", ["embedsweep", "train", "opt"])
    assert (done.stdout, done.stderr) == ("\n", "")


def test_completion_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from embedsweep.cli import main\n"
        "main(['-sc', 'query=bash'])\n"
        "heavy = {'torch', 'transformers', 'optuna', 'mlflow', 'pandas', 'datasets', 'scipy', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environment = {**os.environ, "COMP_LINE": "embedsweep evaluate n"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["night", "[]"]
