from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from embedsweep.cli import VERBS
from embedsweep.commands.arguments import Option, Positional, Verb, format_help, parse, whole_number
from embedsweep.config.compose import shipped_conf
from embedsweep.errors import ConfigError

WITH_DEFAULTS = [verb for name, verb in VERBS.items() if name != "train"]
VERB = Verb(
    name="encode",
    summary="a summary",
    run=lambda *_: 0,
    positionals=(Positional("MODEL", "a model"), Positional("FILE", "a file")),
    options=(
        Option("--out", "FILE", "where to", is_required=True),
        Option("--batch-size", "N", "how many", whole_number(1)),
        Option("--columns", "A B", "which", nargs=2),
        Option("--names", "NAME", "100 % of them", nargs="+"),
        Option("--normalize", "", "whether"),
    ),
    former_keys={"target": "--out"},
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", WITH_DEFAULTS, ids=lambda verb: verb.name)
def test_every_option_has_its_default_in_the_yaml_file_and_nothing_else_is_there(verb: Verb) -> None:
    tree = yaml.safe_load((shipped_conf() / "commands.yaml").read_text(encoding="utf-8"))
    assert set(tree) == {verb.name for verb in WITH_DEFAULTS}
    assert len(tree) == 13
    assert sorted(tree[verb.name]) == sorted(option.key for option in verb.options)


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (["--out", "a.npy"], "out", "a.npy"),
        (["--out=a=b.npy"], "out", "a=b.npy"),
        (["target=a.npy"], "out", "a.npy"),
        (["--out=a", "--batch-size", "8"], "batch_size", 8),
        (["--out=a", "--columns", "a", "b", "--normalize"], "columns", ["a", "b"]),
        (["--out=a", "--names", "a", "b", "c"], "names", ["a", "b", "c"]),
        (["--out=a", "--normalize"], "normalize", True),
        (["--out=a"], "normalize", False),
        (["--out=a"], "batch_size", 64),
    ],
)
def test_an_option_has_its_value_or_its_default(words: list[str], key: str, expected: object) -> None:
    arguments = parse(VERB, ["m", "f", *words])
    assert arguments.problems == []
    assert (getattr(arguments.values, key), arguments.positionals) == (expected, [["m"], ["f"]])


@pytest.mark.parametrize("words", [["m", "--out", "a", "f"], ["--out", "a", "--normalize", "m", "f"]])
def test_options_stand_anywhere(words: list[str]) -> None:
    arguments = parse(VERB, words)
    assert (arguments.problems, arguments.positionals, arguments.values.out) == ([], [["m"], ["f"]], "a")


def test_all_problems_are_reported_at_once() -> None:
    words = ["m", "f", "g", "--ot", "x", "--batch-size", "x", "--out", "b", "--out", "a"]
    with pytest.raises(ConfigError) as caught:
        parse(VERB, words).check()
    assert [(problem.where, problem.message.split(";")[0].split(":")[0]) for problem in caught.value.problems] == [
        ("--out", "is given more than once"),
        ("--batch-size", "must be a whole number of at least 1, but got x"),
        ("--ot", "no such option (did you mean --out?)"),
        ("g", "unexpected argument"),
    ]


@pytest.mark.parametrize(
    ("word", "where", "message"),
    [
        ("--normalize=1", "--normalize", "ignored explicit argument '1'"),
        ("--out", "--out", "expected one argument"),
        ("--columns=a", "--columns", "expected 2 arguments"),
    ],
)
def test_a_wrong_number_of_values_is_reported_with_the_problems_before_it(word: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(VERB, ["m", "f", "--batch-size", "x", word])
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("--batch-size", "must be a whole number of at least 1, but got x"),
        (where, message),
    ]


def test_a_conf_of_the_working_directory_changes_a_default(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "commands.yaml").write_text("encode: {batch_size: 7}", encoding="utf-8")
    values = parse(VERB, ["m", "f", "--out", "a"]).values
    assert (values.batch_size, values.normalize) == (7, False)


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ("batch_size: 0", "--batch-size: must be a whole number of at least 1, but got 0"),
        ("normalize: 3", "--normalize: must be true or false, but got 3"),
        ("columns: [a]", "--columns: must be a list of 2, but got [a]"),
        ("names: a", "--names: must be a list, but got a"),
        ("out: [a]", "--out: must be one value, but got [a]"),
    ],
)
def test_a_wrong_default_names_its_file(tmp_path: Path, default: str, message: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "commands.yaml").write_text(f"encode: {{{default}}}", encoding="utf-8")
    words = [] if default.startswith("out") else ["--out=a"]
    assert [str(each) for each in parse(VERB, ["m", "f", *words]).problems] == [f"{message} (in conf/commands.yaml)"]


def test_a_wrong_default_does_not_matter_where_the_option_is_given(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "commands.yaml").write_text("encode: {batch_size: 0, columns: [a]}", encoding="utf-8")
    arguments = parse(VERB, ["m", "f", "--out=a", "--batch-size=2", "--columns", "a", "b"])
    assert (arguments.problems, arguments.values.batch_size) == ([], 2)


def test_missing_arguments_are_reported_with_the_usage() -> None:
    (out, model, file) = parse(VERB, []).problems
    assert (out.where, model.where, file.where) == ("--out", "MODEL", "FILE")
    assert "must be given: --out FILE" in out.message
    assert "embedsweep encode MODEL FILE" in model.message


@pytest.mark.parametrize("verb", [*WITH_DEFAULTS, VERB], ids=lambda verb: verb.name)
def test_help_names_every_argument_and_its_default(verb: Verb) -> None:
    text = format_help(verb)
    for option in verb.options:
        assert f"  {option.name}" in text
        assert " ".join(option.help.split()[:2]) in text
    for positional in verb.positionals:
        assert f"  {positional.metavar}" in text
    assert ("(default: 64)" in text) == any(option.name == "--batch-size" for option in verb.options)
    assert max(map(len, text.splitlines())) <= 120
