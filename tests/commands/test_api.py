"""``import embedsweep``: light, typed, checked as the command is; sweeps in threads, interrupted and resumed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import embedsweep
from embedsweep.config.study import DiscreteAxis
from embedsweep.study.study import Study

ROOT = Path(__file__).parents[2]
QUICK = ["data.limit=64", "trainer.max_steps=8", "trainer.device=cpu"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import sys, embedsweep\nprint([name for name in sys.modules if '.' in name and 'embedsweep' in name])"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout == "[]\n"


def test_every_public_name_exists_and_an_unknown_one_is_an_attribute_error() -> None:
    assert sorted(embedsweep.__all__) == embedsweep.__all__
    assert [name for name in embedsweep.__all__ if not hasattr(embedsweep, name)] == []
    assert set(embedsweep.__all__) <= set(dir(embedsweep))
    with pytest.raises(AttributeError, match="module 'embedsweep' has no attribute 'trian'"):
        embedsweep.trian  # noqa: B018


def test_compose_returns_the_configuration_or_the_plan_of_a_study() -> None:
    config = embedsweep.compose(["loss=cosent", "optimizer.lr=3e-4"])
    assert (config.loss.name, config.optimizer.lr) == ("cosent", 3e-4)
    plan = embedsweep.compose(["loss=mnrl,cosent"], sweep=True)
    assert plan.axes == (DiscreteAxis("loss", ("mnrl", "cosent"), {}),)
    assert not Path("sweeps").exists()


@pytest.mark.parametrize("function", [embedsweep.train, embedsweep.sweep, embedsweep.compose])
def test_everything_that_is_wrong_is_raised_at_once(function: object) -> None:
    assert callable(function)
    with pytest.raises(embedsweep.ConfigError) as caught:
        function(["los=mnrl", "optimizer.lr=-1"])
    assert {"los", "optimizer.lr"} <= {problem.where for problem in caught.value.problems}
    assert "los: no such key (did you mean loss?)" in str(caught.value)
    with pytest.raises(embedsweep.ConfigError, match=r"give a list of overrides: \['loss=mnrl'\]"):
        function("loss=mnrl")


def test_a_dry_run_is_a_plan() -> None:
    with pytest.raises(embedsweep.ConfigError, match=r"study.dry_run: leave it out: compose\(..., sweep=True\)"):
        embedsweep.sweep(["loss=mnrl,cosent", "study.dry_run=true"])


@pytest.mark.slow
def test_the_code_of_the_documentation_runs_in_a_thread_and_leaves_the_program_its_output_and_its_process(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    environment, root = dict(os.environ), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names: dict[str, Any] = {}

    def run() -> None:
        for block in code:
            if "copy.log" in block:
                shutil.copy("sweeps/losses/journal.log", "copy.log")
            exec(block, names)
        names["done"] = True

    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "PYTHON.md").read_text("utf-8"), re.M | re.S)
    assert len(code) == 4
    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        print("mine")
    assert names.get("done"), "a block failed; its traceback was printed"
    study: embedsweep.LoadedStudy = names["study"]
    assert study.trials()["state"].tolist() == ["COMPLETE", "COMPLETE"]
    assert study.scores()["score"].between(-1, 1).all()
    logs = [path.read_text(encoding="utf-8") for path in study.folder.glob("trials/*/train.log")]
    assert len(logs) == 2
    assert not any("mine" in log for log in logs)
    assert "mine" in capsys.readouterr().out
    assert (dict(os.environ), root.handlers, root.level) == (environment, handlers, level)


@pytest.mark.slow
def test_an_interrupted_sweep_is_resumed_by_the_same_call_in_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["loss=mnrl,cosent", "study.name=interrupted", *QUICK]
    report = Study.report
    interrupted: list[bool] = []

    def reporting(self: Study, *arguments: object, **keywords: object) -> object:
        if not interrupted:
            interrupted.append(True)
            signal.raise_signal(signal.SIGINT)
        return report(self, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(Study, "report", reporting)
    with pytest.raises(KeyboardInterrupt):
        embedsweep.sweep(words)
    assert embedsweep.load_study("interrupted").trials()["state"].tolist() == ["RUNNING"]
    study = embedsweep.sweep(words)
    assert study.is_complete
    assert study.trials()["state"].tolist() == ["COMPLETE", "COMPLETE"]
    assert len(study.trials()["run_id"].unique()) == 2


@pytest.mark.slow
def test_a_run_is_returned_with_its_result_and_model_and_a_failed_one_is_raised() -> None:
    run = embedsweep.train(["loss=mnrl", *QUICK])
    assert run.folder == Path("sweeps/single").resolve() / run.run_id
    assert run.result.objective == run.result.dev["dev/spearman_cosine"]
    assert run.model(device="cpu").encode(["a"]).shape == (1, 128)
    with pytest.raises(embedsweep.TrialError, match=r"TrialError: .*; log: .*train\.log"):
        embedsweep.train(["loss=mnrl", "optimizer.lr=1", "optimizer.max_grad_norm=1e6", *QUICK])


PROGRAM = """
import embedsweep

def rate(config: embedsweep.TrialConfig) -> float:
    return config.optimizer.lr

plan: embedsweep.StudyPlan = embedsweep.compose(["loss=mnrl,cosent"], sweep=True)
print(plan.axes, rate(embedsweep.compose(["loss=mnrl"])))
try:
    run: embedsweep.TrainedRun = embedsweep.train(["loss=mnrl"])
except embedsweep.ConfigError as error:
    problems: tuple[embedsweep.Problem, ...] = error.problems
    raise SystemExit("; ".join(f"{each.where}: {each.message}" for each in problems)) from None
result: embedsweep.TrialResult = run.result
print(result.objective, run.run_id, run.folder / "train.log", run.model().encode(["a"]).shape)
study: embedsweep.LoadedStudy = embedsweep.sweep(["loss=mnrl,cosent", "study.name=losses"])
study = embedsweep.load_study("losses", folder=".", storage=None)
best: embedsweep.TrialRow = study.best
print(study.trials(config=True)["state"].tolist(), study.curves().columns, study.scores(best)["id"].max())
print(best.objectives["dev/spearman_cosine"] + 1, study.optuna.best_value, study.config(0).loss.name)
print(study.results.groups["loss"][0].median, study.model(best, device="cpu").encode(["a"]).shape)
"""
WRONG = """
import embedsweep

embedsweep.sweep(["loss=mnrl"]).bset
embedsweep.compose(["loss=mnrl"]).optimizer.lr + "1"
embedsweep.compose(["loss=mnrl,cosent"], sweep=True).optimizer
"""
SETTINGS = """
[mypy]
strict = true
follow_imports = silent
[mypy-torch.*,sentence_transformers.*,transformers.*,mlflow.*,datasets.*,sqlalchemy.*,scipy.*,pyarrow.*,pandas.*,numpy.*]
follow_imports = skip
"""
"""Of a program, as it finds this package installed; without the libraries, whose types take most of the time."""


@pytest.mark.slow
def test_mypy_accepts_a_program_that_uses_everything_and_finds_its_mistakes(tmp_path: Path) -> None:
    for name, text in (("program.py", PROGRAM), ("wrong.py", WRONG), ("mypy.ini", SETTINGS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = str(Path(embedsweep.__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-m", "mypy", "program.py", "wrong.py"],
        env={**os.environ, "MYPYPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout.splitlines()[:-1] == [
        'wrong.py:4: error: "LoadedStudy" has no attribute "bset"  [attr-defined]',
        'wrong.py:5: error: Unsupported operand types for + ("float" and "str")  [operator]',
        'wrong.py:6: error: "StudyPlan" has no attribute "optimizer"  [attr-defined]',
    ], child.stdout + child.stderr
