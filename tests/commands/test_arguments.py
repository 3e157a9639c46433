from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from embedsweep.commands import encode, evaluate, publish, similarity
from embedsweep.commands.arguments import Argument, Place, Takes, Verb, parse, print_help
from embedsweep.config.compose import shipped_conf
from embedsweep.errors import ConfigError

VERBS = [evaluate.VERB, encode.VERB, similarity.VERB, publish.VERB]
VERB = Verb(
    "encode",
    "About.",
    (Place("MODEL", "a model"), Place("FILE", "a file")),
    (
        Argument("out", Takes.WORD, "FILE", "where to"),
        Argument("batch-size", Takes.NUMBER, "N", "how many"),
        Argument("columns", Takes.WORDS, "A B", "which"),
        Argument("normalize", Takes.NOTHING, "", "whether"),
    ),
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_argument_has_its_default_in_the_file_and_no_other_has(verb: Verb) -> None:
    tree = yaml.safe_load((shipped_conf() / "commands.yaml").read_text(encoding="utf-8"))
    assert set(tree) == {"ui", *(verb.name for verb in VERBS)}
    assert sorted(tree[verb.name]) == sorted(argument.key for argument in verb.arguments)


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (["--out", "a.npy"], "out", "a.npy"),
        (["--out=a=b.npy"], "out", "a=b.npy"),
        (["--batch-size", "8"], "batch_size", 8),
        (["--columns", "a", "b", "--normalize"], "columns", ["a", "b"]),
        (["--normalize"], "normalize", True),
        ([], "normalize", False),
        ([], "batch_size", 64),
    ],
)
def test_an_argument_has_what_was_typed_or_else_its_default(words: list[str], key: str, expected: object) -> None:
    typed = parse(VERB, ["m", "f", *words])
    assert typed.problems == []
    assert (typed.reader.raw(key) == expected, typed.places) == (True, [["m"], ["f"]])


def test_all_that_is_wrong_is_told_at_once() -> None:
    typed = parse(VERB, ["m", "f", "g", "--ot", "x", "--batch-size", "x", "--normalize=1", "--out", "--out", "a"])
    typed.reader.integer("batch_size", at_least=1)
    with pytest.raises(ConfigError) as caught:
        typed.check()
    assert [(problem.where, problem.message.split(";")[0].split(":")[0]) for problem in caught.value.problems] == [
        ("--ot", "no such argument (did you mean --out?)"),
        ("--normalize", "takes no value, but got 1"),
        ("--out", "needs a value"),
        ("--out", "is given twice"),
        ("g", "is one word too many"),
        ("--batch-size", "must be a whole number of at least 1, but got 'x'"),
    ]


def test_a_conf_of_the_working_directory_changes_a_default(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "commands.yaml").write_text("encode: {batch_size: 7}", encoding="utf-8")
    typed = parse(VERB, ["m", "f"])
    assert (typed.reader.integer("batch_size", 1), typed.reader.boolean("normalize")) == (7, False)


def test_what_is_missing_is_told_with_the_usage() -> None:
    (first, second) = parse(VERB, []).problems
    assert (first.where, second.where) == ("MODEL", "FILE")
    assert "embedsweep encode MODEL FILE" in first.message


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_names_every_argument(verb: Verb) -> None:
    output = io.StringIO()
    print_help(verb, Console(file=output))
    lines = output.getvalue().splitlines()
    for argument in verb.arguments:
        assert any(line.startswith(f"  --{argument.name} ") and argument.help in line for line in lines)
