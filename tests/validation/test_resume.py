"""Earlier single runs: finding and reading them, what may change when they are resumed, and what is copied."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedsweep.config.identity import trial_config_of
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import ConfigError
from embedsweep.files import SINGLE_RUNS
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.validation.resume import copy_training, find_run
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep

ID = "50e12345aaaabbbbccccddddeeeeffff"
"""Begins as a number does, which a command line reads as one."""

ANOTHER = "50e12399aaaabbbbccccddddeeeeffff"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def plain(config: TrialConfig) -> Any:
    """As ``config.yaml`` has it."""
    return yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(asdict(config)))))


def earlier_run(*words: str, run_id: str = ID, step: int | None = 12, best: int = 6, epoch: float = 2.0) -> Path:
    """Return the folder of an earlier run, with its last and its best checkpoint."""
    folder = SINGLE_RUNS / run_id
    folder.mkdir(parents=True)
    config = pass_single(["trainer.device=cpu", *words]).config
    (folder / "config.yaml").write_text(yaml.safe_dump(plain(config)), encoding="utf-8")
    (folder / "emissions.csv").write_text("cost\n1\n", encoding="utf-8")
    checkpoints = Checkpoints(folder / "checkpoints")
    for each in {step, best} if step is not None else set[int]():
        path = checkpoints.path(each)
        path.mkdir(parents=True)
        state = {"global_step": each, "epoch": epoch, "max_steps": 12, "best_global_step": best, "log_history": [1]}
        (path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
        (path / "optimizer.pt").write_bytes(bytes([each]) * 9)
        checkpoints.seal(each, {"train_s": float(each), "eval_s": 0.5})
    return folder


def errors(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        pass_single(words)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["loss=matryoshka", "loss.matryoshka_weights=[1,0.5,0.25]", "loss@loss.inner=mnrl"],
        [
            "model.prompts={query: 'q: ', document: ''}",
            "model.default_prompt=query",
            "model.lora.target_modules=[query]",
            "model.dense=16",
        ],
        ["evaluation.benchmarks=[demo-test]", "evaluation.dev=demo-dev", "evaluation.dims=[64,32]"],
        ["trainer.early_stopping.patience=3", "optimizer.lr=2e-5", "data.score_range=[0,5]", "data.max_tokens=[9,9]"],
    ],
    ids=["defaults", "inner loss", "model", "benchmarks", "numbers"],
)
def test_a_configuration_is_read_back_from_its_file(words: list[str]) -> None:
    config = pass_single(words).config
    assert trial_config_of(plain(config)) == config
    assert trial_config_of(asdict(config)) == config


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("trainer", "epochs", "two", "trainer.epochs: must be a number above 0, but got 'two'"),
        (
            "trainer",
            "seed",
            True,
            "trainer.seed: must be a whole number of at least 0 and below 4294967296, but got true",
        ),
        ("trainer", "precision", "fp64", "trainer.precision: must be one of fp32, fp16, bf16, but got 'fp64'"),
        ("data", "score_range", [0, 1, 2], "data.score_range: must be two numbers, the lower one first, as [0,5], but"),
        ("data", "limit", "all", "data.limit: must be a whole number of at least 2, or null, but got 'all'"),
        ("data", "columns", [None], "data.columns: must be a list of names of the header, or of positions from 0, but"),
        ("model", "new", 1, "model.new: no such key (did you mean "),
        ("loss", "parameters", [1], "loss.parameters: must be a mapping of names to values, as {a:1}, but got [1]"),
        ("loss", "inner", 3, "loss.inner: must be a section with keys of its own, but got 3"),
        ("evaluation", "benchmarks", 3, "evaluation.benchmarks: must be a list of sections, but got 3"),
    ],
)
def test_a_stored_tree_that_is_no_configuration_is_refused_by_key(
    section: str, key: str, value: object, message: str
) -> None:
    tree = plain(pass_single([]).config)
    tree[section][key] = value
    with pytest.raises(ConfigError) as error:
        trial_config_of(tree)
    (problem,) = error.value.problems
    assert str(problem).startswith(message)


def test_a_run_is_resolved_by_its_id_a_prefix_or_its_folder(tmp_path: Path) -> None:
    earlier_run("trainer.seed=7")
    for name in (ID, ID[:6], f"sweeps/single/{ID}", f"{tmp_path}/sweeps/single/{ID}/"):
        request = pass_single([f"resume={name}"])
        assert request.resumed is not None
        assert (request.resumed.run.run_id, request.resumed.is_changed) == (ID, False)
        assert request.config.trainer.seed == 7
    assert pass_single([]).resumed is None


def test_an_unknown_run_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    assert errors("resume=abcdef") == [
        f"resume: there is no run abcdef in sweeps/single; there are none in {tmp_path}/sweeps/single"
    ]
    earlier_run()
    earlier_run(run_id=ANOTHER)
    assert errors("resume=50e12") == [
        "resume: must be a run's folder, or at least 6 characters of its id, but got 50e12"
    ]
    assert errors("resume=50e123")[0].startswith("resume: 50e123 is the beginning of the ids of 2 runs: ")
    assert errors("resume=abcdef")[0].endswith(("; the latest are 50e12345, 50e12399", "are 50e12399, 50e12345"))
    assert errors("resume=sweeps/single/none")[0].startswith(
        "resume: there is no folder sweeps/single/none; the latest"
    )


def test_a_folder_of_no_single_run_is_reported() -> None:
    trial = Path("sweeps/lr-1234/trials/0007")
    trial.mkdir(parents=True)
    assert errors(f"resume={trial}") == [
        f"resume: {trial} is a trial of a study, which is resumed by -m study.name=lr-1234"
    ]
    folder = earlier_run()
    (folder / "config.yaml").write_text("trainer: [", encoding="utf-8")
    assert "config.yaml cannot be read: another version wrote it, or it was edited" in errors(f"resume={ID}")[0]
    (folder / "config.yaml").unlink()
    assert errors(f"resume={ID}") == [
        f"resume: {folder} has no config.yaml: it is not a run's folder, or the run ended too early; start a new run"
    ]


def test_the_runs_own_configuration_counts_with_the_words_on_top() -> None:
    earlier_run("loss=mnrl", "loss.scale=33", "trainer.epochs=2")
    words = ["trainer.epochs=4", "trainer.early_stopping.patience=2", "emissions.country_iso_code=FRA"]
    request = pass_single([f"resume={ID}", *words, "tracking.uri=http://host:5000"])
    assert request.resumed is not None
    assert request.resumed.is_changed
    own = request.resumed.run.config
    assert own.loss.parameters["scale"] == 33
    early_stopping = replace(own.trainer.early_stopping, patience=2)
    assert request.config == replace(own, trainer=replace(own.trainer, epochs=4.0, early_stopping=early_stopping))
    assert (request.emissions.country_iso_code, request.tracking.uri) == ("FRA", "http://host:5000")
    assert request.service_overrides == ("emissions.country_iso_code=FRA", "tracking.uri=http://host:5000")


def test_services_alone_change_nothing_of_the_run() -> None:
    earlier_run()
    request = pass_single([f"resume={ID}", "emissions.country_iso_code=FRA", "trainer.epochs=2"])
    assert request.resumed is not None
    assert not request.resumed.is_changed


def test_changes_of_the_training_are_refused_all_at_once() -> None:
    earlier_run()
    words = ["optimizer.lr=1e-3", "loss=mnrl", "data.limit=9", "trainer.seed=1", "study.objective=dev/pearson_max"]
    more = ["trainer=default", "model.dense=3", "trainer.epochs=4", "loss.margin=1", "dataloader.batch_size=3"]
    refused = errors(f"resume={ID}", *words, *more)
    assert sorted(line.partition(":")[0] for line in refused) == [
        "data.limit",
        "dataloader.batch_size",
        "loss",
        "loss.margin",
        "model.dense",
        "optimizer.lr",
        "study.objective",
        "trainer",
        "trainer.seed",
    ]
    assert (
        "optimizer.lr: cannot change when a run is resumed: the checkpoint holds the state of its optimizer and "
        "schedule, which would override it; leave it out, or start a new run"
    ) in refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.epochs=0"], "trainer.epochs: must be a number above 0, but got 0"),
        (["trainer.epoch=3"], "trainer.epoch: no such key (did you mean trainer.epochs?)"),
        (["trainer.epochs=2,3"], "trainer.epochs: several values need a study: add -m"),
        (["trainer.device=cuda:9"], "trainer.device: "),
        (["trainer.epochs=1.5"], "resume: run 50e12345 has trained 2 epochs: trainer.epochs must be above that"),
        (["trainer.log_every=7"], "resume: run 50e12345 has trained 2 epochs: trainer.epochs must be above that"),
        (["trainer.max_steps=12"], "resume: run 50e12345 has trained 12 steps: trainer.max_steps must be above that"),
        (["study.name=x"], "study.name: is for studies, and this is one run: add -m, or leave it out"),
        (["trainer.early_stopping=3"], "trainer.early_stopping: must be a section with keys of its own, but got 3"),
    ],
)
def test_an_invalid_override_is_reported_once(words: list[str], message: str) -> None:
    earlier_run()
    (line,) = errors(f"resume={ID}", *words)
    assert line.startswith(message)


def test_a_run_that_lost_its_checkpoints_can_go_on_but_not_be_changed() -> None:
    earlier_run(step=None)
    assert pass_single([f"resume={ID}"]).resumed is not None
    assert errors(f"resume={ID}", "trainer.epochs=4") == [
        "resume: run 50e12345 has no complete checkpoint: start a new run"
    ]


def test_a_lost_best_checkpoint_is_reported() -> None:
    folder = earlier_run()
    (folder / "checkpoints" / "checkpoint-6" / "optimizer.pt").write_bytes(b"torn")
    assert errors(f"resume={ID}", "trainer.epochs=4") == [
        "resume: run 50e12345 has lost its best checkpoint, of step 6: start a new run"
    ]


def test_a_study_is_not_resumed_so() -> None:
    earlier_run()
    with pytest.raises(ConfigError) as error:
        pass_sweep([f"resume={ID}", "trainer.epochs=2,3"])
    assert [str(problem) for problem in error.value.problems] == [
        "resume: is for a single run: repeat a study's own -m command to resume it"
    ]
    assert errors(f"resume={ID},{ANOTHER}") == ["resume: only one run can be resumed at a time"]


def test_a_copy_is_whole_open_ended_and_leaves_the_earlier_run_alone(tmp_path: Path) -> None:
    folder = earlier_run()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    copy_training(find_run(ID), tmp_path / "new")
    copied = Checkpoints(tmp_path / "new" / "checkpoints")
    assert copied.last_whole() == 12
    assert copied.is_whole(6)
    assert copied.times(12) == {"train_s": 12.0, "eval_s": 0.5}
    state = json.loads((copied.path(12) / "trainer_state.json").read_text())
    assert (state["max_steps"], state["best_global_step"], state["log_history"]) == (0, 6, [1])
    assert (copied.path(12) / "optimizer.pt").read_bytes() == bytes([12]) * 9
    assert (tmp_path / "new" / "emissions.csv").read_text() == "cost\n1\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_copy_that_was_cut_off_is_no_training_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier_run()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "seal", full)
    with pytest.raises(OSError, match="No space"):
        copy_training(find_run(ID), tmp_path / "new")
    assert Checkpoints(tmp_path / "new" / "checkpoints").last_whole() is None
