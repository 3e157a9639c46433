"""Mutated commands and data files; the number of one decides all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from random import Random

from tests.demo_pairs import demo_pairs

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("train",),
    ("train", "loss=cosent", "optimizer.lr=1e-4", "trainer.epochs=2", "trainer.eval_every=0.1"),
    ("train", "model.pooling=cls+max", "model.dense=256", "model.max_seq_length=64", "trainer.device=cpu"),
    ("train", "loss=matryoshka", "loss@loss.inner=mnrl", "loss.matryoshka_dims=[64,32]", "evaluation.dims=[64]"),
    ("train", "data=csv", "data.path=pairs", "data.score_range=[0,5]", 'data.delimiter=";"', "data.encoding=latin-1"),
    ("train", "data=jsonl", "data.path=pairs", "data.columns=[a,b,2]", "data.where={language: es}"),
    ("train", "recipe=distilbert_sts_es", "model=tiny", "data=demo", "evaluation.dev=demo-dev", "data.limit=10"),
    ("train", "model=pretrained", "model.path=ORG/NAME", "model.prompts={query: 'q: '}", "model.lora.rank=8"),
    ("train", "model=static", "model.path=model", "loss=mnrl", "dataloader.batch_size=32", "optimizer.warmup=0.1"),
    ("train", "resume=4f1c2a9b", "trainer.epochs=4"),
    ("train", "tracking.uri=sqlite:///mlruns/mlflow.db", "tracking.spool=true", "emissions.country_iso_code=FRA"),
    ("train", "-m", "loss=mnrl,cosent", "study.name=night", "study.n_trials=7", "study.sampler=tpe"),
    ("train", "-m", "loss=mnrl,cosent", "optimizer.lr=tag(log,interval(1e-5,1e-3))", "study.n_trials=7"),
    ("train", "-m", "loss=mnrl,contrastive", "search=full", "study.n_trials=9", "study.pruner=median"),
    ("train", "-m", "trainer.seed=choice(1,2)", "dataloader.batch_size=range(8,33,8)", "study.sampler=exhaustive"),
    ("train", "-m", "search=lr", "study.n_trials=4", "study.enqueue=[{loss:mnrl,optimizer.lr:1e-3}]"),
    ("train", "-m", "search.space={loss.scale: 'interval(1,9)'}", 'search.constraints=["loss.scale <= 8"]'),
    ("train", "-m", "loss=mnrl,cosent", "workers=local", "workers.count=2", "workers.per_device=auto"),
    ("train", "-m", "study.objective=[dev/spearman_cosine,emissions/co2eq_kg]", "optimizer.lr=1e-4,1e-3"),
    ("train", "-m", "study.storage=postgresql://me:word@host/db", "tracking.uri=http://host:5000", "loss=mnrl,cosent"),
    ("train", "--help", "loss"),
    ("train", "--help", "optimizer.lr"),
    ("train", "--cfg", "job", "-p", "loss", "loss=mnrl"),
    ("train", "--info", "searchpath"),
    ("audit", "data=csv", "data.path=pairs", "data.drop_leaked=true", "--json", "audit.json"),
    ("evaluate", "night", "ORG/NAME", "--benchmark", "demo-dev", "--json", "figures.json"),
    ("encode", "model", "pairs/train.csv", "--column", "sentence1", "--out", "vectors.npy"),
    ("similarity", "model", "pairs/train.csv", "--columns", "sentence1", "sentence2", "--out", "scores.csv"),
    ("publish", "model", "--to", "./published", "--license", "apache-2.0", "--overwrite"),
    ("sync", "--study", "night"),
    ("ui", "--port", "5001", "--tracking-uri", "sqlite:///mlruns/mlflow.db"),
    ("-sc", "install=bash"),
    ("--version",),
)

VALUES = (
    *(
        "",
        "null",
        "true",
        "-1",
        "0",
        "nan",
        "inf",
        "1e999",
        "-0.0",
        "9" * 40,
        "0x10",
        "1_000",
        "1e-400",
        "???",
        "~",
        "~x/y",
    ),
    *("[]", "{}", "[1,[2]]", "{a:{b:1}}", "[null]", "{1: 2}", "a,b", "a,,b", ",", "choice()", "choice(1)", "range(0)"),
    *(
        "range(1,9,0)",
        "range(0,1000000000)",
        "interval(1)",
        "interval(2,1)",
        "interval(nan,1)",
        "tag(log,interval(0,1))",
    ),
    *("tag(a,b)", "glob(*)", "shuffle(1,2)", "sort(2,1)", "int(x)", "str(1)", "float(nan)", "extend_list(1)"),
    *("${loss.scale}", "${nope}", "${oc.env:NOPE}", "${oc.env:HOME}", "${", "$", "${a:b}", "${now:}", "\\", "'", '"'),
    *(
        "/",
        ".",
        "..",
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "/root",
        "a/b/c/d",
        "x" * 300,
        "x" * 5000,
        "é",
        "\u202e",
    ),
    *(
        "\udc80",
        "\x1b[31m",
        "\n",
        "\t",
        "😀",
        "👩‍👩‍👧",
        "a b",
        "a=b",
        "=",
        "==",
        "@",
        "loss@x",
        "%s",
        "{split}",
        "{0}",
        "(",
        "]",
        ":",
    ),
    *(
        "postgresql://",
        "sqlite://",
        "http://",
        "file:///x",
        "sqlite:///pairs",
        "sqlite:///pairs/train.csv",
        "http://[::1",
        "-",
        "--",
        "-m",
        "--help",
    ),
)
"""What a value is replaced by: limits, other types, Hydra's grammar, paths, characters."""

KEYS = (
    *("loss", "model", "data", "study.name", "loss.scale", "optimizer.lr", "trainer.seed", "hydra.run.dir", "x", ""),
    *("loss.inner", "model.space.x", "data.also.a.data.path", "search.space", "study.enqueue", "evaluation.benchmarks"),
    *("+x", "~loss", "@a"),
)


def command(number: int, seed: int) -> list[str]:
    """Return the arguments of one mutated command."""
    random = Random(f"command {seed} {number}")
    words = list(random.choice(COMMANDS))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        random.choice(_ON_WORDS)(words, random)
    return [word.replace("\0", "") for word in words]


def _place(words: Sequence[str], random: Random) -> int:
    """Return the index of a word; that of the verb seldom, as all that follows a wrong one is not read."""
    return random.randrange(0 if random.random() < 0.03 else min(1, len(words) - 1), len(words))


def _replace_value(words: list[str], random: Random) -> None:
    index = _place(words, random)
    key, sign, _ = words[index].partition("=")
    words[index] = f"{key}={random.choice(VALUES)}" if sign else random.choice(VALUES)


def _replace_key(words: list[str], random: Random) -> None:
    index = _place(words, random)
    words[index] = f"{random.choice(KEYS)}={words[index].partition('=')[2]}"


def _add_word(words: list[str], random: Random) -> None:
    words.insert(random.randint(1, len(words)), f"{random.choice(KEYS)}={random.choice(VALUES)}")


def _edit_letters(words: list[str], random: Random) -> None:
    index = _place(words, random)
    words[index] = edited(words[index], random)


def _repeat_word(words: list[str], random: Random) -> None:
    words.insert(random.randint(0, len(words)), random.choice(words))


def _drop_word(words: list[str], random: Random) -> None:
    if len(words) > 1:
        del words[random.randrange(1, len(words))]


def _join_values(words: list[str], random: Random) -> None:
    index = _place(words, random)
    words[index] += f",{random.choice(VALUES)}"


_ON_WORDS: tuple[Callable[[list[str], Random], None], ...] = (
    *(_replace_value, _replace_value, _replace_key, _add_word, _add_word),
    *(_edit_letters, _edit_letters, _repeat_word, _drop_word, _join_values),
)

LETTERS = "abz019 ,;:=.-+*/\\'\"()[]{}<>$@~#%&|!?_\t\néß中😀\u200b"


def edited(text: str, random: Random) -> str:
    """Return a text with one to three letters removed, replaced or added."""
    letters = list(text)
    for _ in range(random.randint(1, 3)):
        index = random.randint(0, len(letters))
        letters[index : index + random.randint(0, 2)] = random.choice(("", random.choice(LETTERS)))
    return "".join(letters)


FORMATS = {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "parquet": "parquet"}
"""Options of ``data`` -> the suffixes of their files."""


def whole_files(option: str) -> dict[str, bytes]:
    """Return the content of the files of an option of ``data``, by their names."""
    return {
        f"{split}.{FORMATS[option]}": _written(option, demo_pairs(split)[:12]) for split in ("train", "dev", "test")
    }


def data_files(number: int, seed: int) -> tuple[str, dict[str, bytes], list[str]]:
    """Return an option of ``data``, the content of its files, of which one is mutated, and further overrides."""
    random = Random(f"data {seed} {number}")
    option = random.choice(sorted(FORMATS))
    files = whole_files(option)
    name = random.choice(sorted(files))
    for _ in range(random.choice((1, 1, 2, 4))):
        files[name] = random.choice(_ON_BYTES)(files[name], random)
    return option, files, list(random.choice(_SETTINGS))


_BENCHMARKS = ("evaluation.dev=demo-dev", "evaluation.test=demo-test")

_SETTINGS: Sequence[tuple[str, ...]] = (
    *(
        (),
        (),
        (),
        ("data.columns=[0,1,2]",),
        ("data.columns=[2,1,0]",),
        ("data.shape=positive_pairs", "data.columns=[0,1]", *_BENCHMARKS),
    ),
    *(
        ("data.shape=texts", "data.columns=[0]", *_BENCHMARKS),
        ("data.encoding=utf-16",),
        ("data.encoding=latin-1",),
        ("data.limit=3",),
    ),
    *(("data.drop_leaked=true",), ("data.shape=class_pairs", *_BENCHMARKS), ("data.shape=binary_pairs", *_BENCHMARKS)),
    *(
        ("data.where={score: 1}",),
        ("data.quoting=none",),
        ("data.quoting=double_quotes",),
        ("data.score_range=[-1,9]",),
    ),
)


def _written(option: str, rows: Sequence[tuple[str, str, float]]) -> bytes:
    header = ("sentence1", "sentence2", "score")
    if option == "jsonl":
        return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()
    if option == "parquet":
        return _parquet(rows, header)
    text = io.StringIO()
    csv.writer(text, delimiter="," if option == "csv" else "\t").writerows([header, *rows])
    return text.getvalue().encode()


def _parquet(rows: Sequence[tuple[str, str, float]], header: Sequence[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))), file)
    return file.getvalue()


PIECES = (
    *(
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\n\n\n",
        b'"',
        b'""',
        b"'",
        b",",
        b";",
        b"\t",
        b"\\",
    ),
    *(
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"NULL",
        b"{",
        b"}",
        b"[",
        b"]",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"1\n",
    ),
    *(
        b'"\\ud83d"',
        b"\\u0000",
        "\u200b".encode(),
        "é".encode("latin-1"),
        "中".encode("utf-16"),
        b"\x1b[31m",
        b"x" * 140_000,
    ),
    *(b'{"score": {"a": 1}}\n', b'{"sentence1": [1]}\n', b'["a", "b", 1]\n', b"\x1f\x8b\x08", b"PK\x03\x04", b"PAR1"),
)


def _insert(content: bytes, random: Random) -> bytes:
    at = random.randint(0, len(content))
    return content[:at] + random.choice(PIECES) + content[at:]


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _cut(content: bytes, random: Random) -> bytes:
    first, last = sorted(random.randint(0, len(content)) for _ in range(2))
    return random.choice((content[:first], content[first:], content[:first] + content[last:]))


def _replace(content: bytes, random: Random) -> bytes:
    old = random.choice((b",", b"\t", b'"', b"\n", b"sentence1", b"score", b"A", b":", b".", b"{"))
    return content.replace(old, random.choice(PIECES), random.choice((1, 3, -1)))


def _repeat(content: bytes, random: Random) -> bytes:
    return content * random.randint(0, 3)


def _encode(content: bytes, random: Random) -> bytes:
    encoding = random.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig", "cp500"))
    return content.decode("utf-8", errors="replace").encode(encoding, errors="replace")


def _compress(content: bytes, random: Random) -> bytes:
    import bz2
    import gzip
    import lzma

    return random.choice((gzip.compress, bz2.compress, lzma.compress))(content)


_ON_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_insert, _insert, _insert, _flip, _flip, _cut, _replace, _replace, _repeat, _encode, _compress),
)
