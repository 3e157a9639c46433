"""Names of Optuna, Hydra's sweepers, transformers and sentence-transformers get the word that holds here."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.config.compose import open_composer
from embedsweep.config.other_names import FUNCTIONS, KEYS, here, word_here
from embedsweep.config.values import leaf_keys
from embedsweep.losses.table import LOSSES


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


SWEEP = ("-m", "loss=mnrl,cosent", "study.dry_run=true")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (*SWEEP, "hydra.sweeper.n_trials=20"),
            "has its own sweeper and workers; here it is study.n_trials",
        ),
        ((*SWEEP, "hydra.sweeper.sampler.seed=1"), "here it is study.sampler, as study.sampler=tpe, and study.seed"),
        ((*SWEEP, "hydra/sweeper/sampler=tpe"), "here it is study.sampler, as study.sampler=tpe, and study.seed"),
        ((*SWEEP, "hydra.sweeper.direction=maximize"), "here it is study.objective, whose metric has its direction"),
        ((*SWEEP, "hydra.launcher.n_jobs=2"), "here it is workers.count, with workers=local"),
        ((*SWEEP, "study_name=mine"), "study_name: no such key; here it is study.name"),
        ((*SWEEP, "study.study_name=mine"), "study.study_name: no such key; here it is study.name"),
        ((*SWEEP, "study.pruner=asha"), "but got 'asha' (did you mean successive_halving?)"),
        ((*SWEEP, "study.sampler=TPESampler"), "but got 'TPESampler' (did you mean tpe?)"),
        (("-m", "optimizer.lr=loguniform(1e-6,1e-4)"), "it is written 'optimizer.lr=tag(log,interval(1e-6,1e-4))'"),
        (("-m", "trainer.seed=randint(1,5)"), "it is written 'trainer.seed=int(interval(1,5))'"),
        (("-m", "loss=[mnrl,cosent]"), "loss: takes the name of an option, not a list: -m loss=mnrl,cosent"),
        (("loss=[mnrl]",), "loss: takes the name of an option, not a list: loss=mnrl"),
        (("loss=CoSENTLoss",), "no option CoSENTLoss (did you mean cosent?)"),
        (("workers=sbatch",), "no option sbatch (did you mean slurm?); there are: inline, local, ray, slurm"),
        (("workers=dask",), "did you mean the same command with workers=local on each machine: docs/CLUSTERS.md?"),
        (("workers=kubernetes",), "did you mean the same command with workers=local in each pod: docs/CLUSTERS.md?"),
        (("workers.slurm.time=4:00:00",), "workers=inline has no such key; choose workers=slurm for it"),
        (
            (*SWEEP, "workers=ray", "workers.slurm={mem:16G}"),
            "workers=ray has no such key; choose workers=slurm for it",
        ),
        ((*SWEEP, "workers=slurm", "workers.partition=gpu"), "no such key (did you mean workers.slurm.partition?)"),
        (("learning_rate=1e-5",), "learning_rate: no such key; here it is optimizer.lr"),
        (("trainer.num_train_epochs=3",), "trainer.num_train_epochs: no such key; here it is trainer.epochs"),
        (("trainer.epocs=3",), "trainer.epocs: no such key (did you mean trainer.epochs?); it has: "),
    ],
)
def test_one_mistake_gets_one_line_with_the_right_word(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main(["train", *words]) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "embedsweep: 1 problem; nothing was trained"
    assert len(lines) == 1
    assert message in lines[0]


def test_every_name_here_exists() -> None:
    with open_composer() as composer:
        known = {*leaf_keys(composer.compose({})), *composer.groups, "sweeps/", "the"}
    names = {name.partition(",")[0].partition(":")[0].partition("=")[0].split()[0] for name in KEYS.values()}
    assert names <= known


def test_a_key_that_is_called_so_here_is_not_another_librarys() -> None:
    assert here("study.n_trials") is None
    assert here("trainer.n_trials") == "study.n_trials"


@pytest.mark.parametrize(
    ("word", "allowed", "expected"),
    [
        ("ASHA", ["median", "successive_halving"], "successive_halving"),
        ("HyperbandPruner", ["median", "hyperband"], "hyperband"),
        ("MultipleNegativesRankingLoss", LOSSES, "mnrl"),
        ("asha", ["tpe", "gp"], None),
        ("cosnet", LOSSES, None),
    ],
)
def test_a_word_is_translated_where_its_translation_is_allowed(
    word: str, allowed: list[str], expected: str | None
) -> None:
    assert word_here(word, allowed) == expected


def test_every_function_is_written_as_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    for name, sweep in FUNCTIONS.items():
        assert main(["train", "-m", f"trainer.seed={name}(1,5)"]) == 2
        assert f"trainer.seed={sweep.format('1,5')}" in capsys.readouterr().err
