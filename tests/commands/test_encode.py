from __future__ import annotations

import csv
import io
import resource
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sentence_transformers import SentenceTransformer

from embedsweep.commands import encode, similarity
from embedsweep.errors import ConfigError, EmbedsweepError
from embedsweep.models.tiny import tiny_model_path

TEXTS = ["The cook washed the dog.", "El gato duerme", "A bird flew", "The king sang a song", "NA"]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the tiny model, texts and pairs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_path(), tmp_path / "tiny")
    Path("texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    with Path("pairs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("sentence1", "sentence2"), *zip(TEXTS, reversed(TEXTS), strict=True)])


def _encode(*words: str, terminal: bool = False) -> str:
    output = io.StringIO()
    assert encode.run(words, Console(file=output, force_terminal=terminal, width=100)) == 0
    return output.getvalue()


def test_parquet_holds_texts_and_the_models_embeddings(model: SentenceTransformer) -> None:
    output = _encode("tiny", "texts.txt", "--out", "a.parquet")
    table = pq.read_table("a.parquet")
    assert table.column_names == ["text", "embedding"]
    assert table.column("text").to_pylist() == TEXTS
    np.testing.assert_allclose(table.column("embedding").to_pylist(), model.encode(TEXTS), atol=1e-6)
    assert output == "a.parquet: 5 embeddings of 128 dimensions, by the folder tiny\n"


@pytest.mark.parametrize("batches", [1, 32])
def test_npy_is_float32_in_the_order_of_the_file_for_any_chunks(
    model: SentenceTransformer, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "BATCHES_AT_ONCE", batches)
    _encode("tiny", "texts.txt", "--out", "a.npy", "--batch-size", "2")
    embeddings = np.load("a.npy")
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (5, 128))
    np.testing.assert_allclose(embeddings, model.encode(TEXTS), atol=1e-6)


def test_embeddings_are_cut_and_then_normalised(model: SentenceTransformer) -> None:
    _encode("tiny", "texts.txt", "--out", "a.npy", "--truncate-dim", "8", "--normalize")
    cut = model.encode(TEXTS)[:, :8]
    np.testing.assert_allclose(np.load("a.npy"), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5)


def test_a_prompt_of_the_model_is_put_before_every_text(model: SentenceTransformer) -> None:
    prompted = SentenceTransformer(str(tiny_model_path()), device="cpu", prompts={"ask": "question: "})
    prompted.save_pretrained("prompted")
    _encode("prompted", "texts.txt", "--out", "a.npy", "--prompt", "ask")
    np.testing.assert_allclose(np.load("a.npy"), model.encode([f"question: {text}" for text in TEXTS]), atol=1e-6)


def test_a_bar_is_shown_in_a_terminal_only() -> None:
    assert "5/5" in _encode("tiny", "texts.txt", "--out", "a.npy", terminal=True)
    assert "5/5" not in _encode("tiny", "texts.txt", "--out", "b.npy")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["tiny", "texts.txt"], ["--out"]),
        (["tiny", "texts.txt", "--out", "a.csv"], ["--out"]),
        (["tiny", "texts.txt", "--out", "nowhere/a.npy"], ["--out"]),
        (["tiny", "pairs.csv", "--out", "a.npy"], ["pairs.csv"]),
        (["tiny", "texts.txt", "--out", "a.npy", "--prompt", "ask"], ["--prompt"]),
        (["tiny", "texts.txt", "--out", "a.npy", "--truncate-dim", "129"], ["--truncate-dim"]),
        (["tyni", "text.txt", "--out", "a.npy", "--device", "gpu"], ["--device", "text.txt", "tyni"]),
        ([], ["--out", "MODEL", "FILE"]),
    ],
)
def test_all_problems_are_reported_and_nothing_is_written(words: list[str], where: list[str]) -> None:
    before = sorted(Path().iterdir())
    with pytest.raises(ConfigError) as caught:
        _encode(*words)
    assert [problem.where for problem in caught.value.problems] == where
    assert sorted(Path().iterdir()) == before


def test_an_existing_file_stays_without_overwrite() -> None:
    Path("a.npy").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="--overwrite"):
        _encode("tiny", "texts.txt", "--out", "a.npy")
    assert Path("a.npy").read_text(encoding="utf-8") == "mine"
    _encode("tiny", "texts.txt", "--out", "a.npy", "--overwrite")
    assert np.load("a.npy").shape == (5, 128)


@pytest.mark.parametrize("name", ["a.npy", "a.parquet"])
def test_a_failed_encoding_leaves_no_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(SentenceTransformer, "encode", failing)
    before = sorted(Path().iterdir())
    with pytest.raises(MemoryError):
        _encode("tiny", "texts.txt", "--out", name)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("name", ["a.npy", "a.parquet"])
def test_a_full_disk_is_reported_and_leaves_no_file(name: str) -> None:
    before = sorted(Path().iterdir())
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
    try:
        with pytest.raises(EmbedsweepError, match=rf"^{name} cannot be written: \w+"):
            _encode("tiny", "texts.txt", "--out", name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("name", ["x.npy", "x.parquet"])
def test_a_folder_that_cannot_be_written_is_reported(name: str) -> None:
    with pytest.raises(EmbedsweepError, match=rf"^/proc/{name} cannot be written: "):
        _encode("tiny", "texts.txt", "--out", f"/proc/{name}")


@pytest.mark.parametrize("content", [b"garbage", None])
def test_broken_weights_are_reported(content: bytes | None) -> None:
    weights = Path("tiny/model.safetensors")
    weights.write_bytes(content if content is not None else weights.read_bytes()[:5000])
    with pytest.raises(EmbedsweepError, match=r"^the model tiny cannot be loaded: SafetensorError: .+"):
        _encode("tiny", "texts.txt", "--out", "a.npy")


def _cosines(model: SentenceTransformer) -> np.ndarray:
    first = model.encode(TEXTS).astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.asarray((first * first[::-1]).sum(axis=1))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_pairs_are_scored_in_their_order(model: SentenceTransformer, name: str) -> None:
    assert similarity.run(["tiny", "pairs.csv", "--out", name], Console(file=io.StringIO())) == 0
    if name.endswith(".csv"):
        with Path(name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(name).to_pylist()
    assert [row["sentence1"] for row in rows] == TEXTS
    assert [row["sentence2"] for row in rows] == TEXTS[::-1]
    np.testing.assert_allclose([float(row["score"]) for row in rows], _cosines(model), atol=1e-6)


def test_columns_by_position_belong_to_a_file_without_header(model: SentenceTransformer) -> None:
    Path("bare.tsv").write_text("".join(f"x\t{text}\t{TEXTS[0]}\n" for text in TEXTS), encoding="utf-8")
    words = ["tiny", "bare.tsv", "--columns", "1", "2", "--similarity", "euclidean", "--out", "a.parquet"]
    assert similarity.run(words, Console(file=io.StringIO())) == 0
    embeddings = model.encode(TEXTS).astype(np.float64)
    expected = 1 / (1 + np.linalg.norm(embeddings - embeddings[0], axis=1))
    np.testing.assert_allclose(pq.read_table("a.parquet").column("score").to_pylist(), expected, atol=1e-4)


def test_pairs_without_a_cosine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(_: object, texts: list[str], **__: object) -> np.ndarray:
        return np.array([[0.0, 0.0] if text == "NA" else [1.0, 2.0] for text in texts], dtype=np.float32)

    monkeypatch.setattr(SentenceTransformer, "encode", embed)
    output = io.StringIO()
    assert similarity.run(["tiny", "pairs.csv", "--out", "a.csv"], Console(file=output, width=200)) == 0
    assert output.getvalue().splitlines()[1].startswith("2 pairs without a score (nan): an embedding is zero")
    with Path("a.csv").open(encoding="utf-8", newline="") as file:
        assert [row["score"] for row in csv.DictReader(file)].count("nan") == 2


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--out", "a.parquet", "--columns", "sentence1"], ["--columns"]),
        (["--out", "a.txt", "--similarity", "dot"], ["--similarity", "--out"]),
    ],
)
def test_similarity_takes_two_columns_and_a_known_comparison(words: list[str], where: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        similarity.run(["tiny", "pairs.csv", *words], Console(file=io.StringIO()))
    assert [problem.where for problem in caught.value.problems] == where


@pytest.mark.parametrize(("word", "column"), [("0", 0), ("12", 12), ("text", "text"), ("-1", "-1")])
def test_digits_are_a_position(word: str, column: str | int) -> None:
    assert encode.as_column(word) == column
