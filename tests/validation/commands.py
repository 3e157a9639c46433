"""Validate whole commands; the lists of names in their messages; files that they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.config.compose import shipped_conf
from embedsweep.errors import ConfigError
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import Sweep, pass_sweep

GROUPS = (
    "data, dataloader, emissions, evaluation, loss, model, optimizer, recipe, search, study, tracking, trainer, workers"
)


def options(group: str, *own: str) -> str:
    """Return the end of a message that lists the options of a group: its files, in the order of their names."""
    names = sorted([*(path.stem for path in (shipped_conf() / group).glob("*.yaml")), *own])
    return f"there are: {', '.join(names)}"


LOSSES = options("loss")
MODELS = options("model")
NOTHING = "-m: nothing is swept; give several values (loss=mnrl,cosent), a search (search=lr), or only study.name"
METRICS = (
    "dev/{pearson,spearman}_{cosine,euclidean,manhattan,dot,max}, emissions/co2eq_kg, emissions/energy_kwh, "
    "emissions/duration_s, throughput/examples_per_s"
)


def errors(*words: str) -> list[str]:
    """Return the problems of a command; with ``-m`` first, of one for a study."""
    with pytest.raises(ConfigError) as error:
        pass_sweep(words[1:]) if words[0] == "-m" else pass_single(words)
    problems = [str(problem) for problem in error.value.problems]
    assert len(set(problems)) == len(problems), "each is reported once"
    return problems


def passed(*words: str) -> Sweep:
    """Return a valid command for a study."""
    return pass_sweep(words)


HEADER = "sentence1,sentence2,score\n"
GOOD = HEADER + "a,b,0\nc,d,5\n"


def data_folder(path: Path, **splits: str | bytes | None) -> Path:
    """Write a folder of CSV files, one a split; None leaves a split out."""
    path.mkdir()
    for split in ("train", "dev", "test"):
        content = splits.get(split, GOOD)
        if content is not None:
            (path / f"{split}.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def own_option(path: str, text: str) -> None:
    """Write an option into the ``conf/`` folder of the working directory."""
    file = Path("conf") / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
