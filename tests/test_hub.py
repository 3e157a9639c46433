"""The Hugging Face hub: the probe, the local cache without a network, and the messages if neither helps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from embedsweep.config.trial import DataConfig, Split
from embedsweep.data.checks import checked_examples
from embedsweep.data.examples import as_pairs
from embedsweep.data.scored import Pairs
from embedsweep.data.sources import read_hub
from embedsweep.errors import ConfigError, Problem
from embedsweep.hub import cached_model_path, hub_reachable
from tests.configs import SCORED

STSB = replace(
    SCORED,
    name="stsb_multi_mt",
    hub="someone/stsb_multi_mt",
    language="es",
    files="stsb-{language}-{split}.csv",
    columns=("sentence1", "sentence2", "similarity_score"),
)
OLD, NEW = "0" * 40, "f" * 40
Columns = dict[str, list[Any]]
ROWS: Columns = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "similarity_score": [1.0, 2.5]}
SPLITS = {"train": ROWS, "dev": ROWS, "test": ROWS}
ALL: tuple[Split, ...] = ("train", "dev", "test")


def _read(config: DataConfig, splits: tuple[Split, ...] = ALL) -> dict[Split, Pairs]:
    """Return the splits as scored pairs, or raise all their problems as one error."""
    problems: list[Problem] = []
    pairs: dict[Split, Pairs] = {}
    for split, table in read_hub("someone/stsb_multi_mt", config, splits, "say INSTEAD").items():
        try:
            pairs[split] = as_pairs(checked_examples(table, config))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return pairs


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, unreachable_hub: None) -> Path:
    """Return the folder of the caches, which are empty."""
    return tmp_path


class Hub:
    """A server on this machine that counts its requests.

    Args:
        status: what it answers with; None hangs until it is closed.
    """

    def __init__(self, status: int | None) -> None:
        self.requests = 0
        self._closing = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.requests += 1
                if status is None:
                    hub._closing.wait(30)
                    return
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (401, True), (404, True), (405, True), (503, False)])
def test_a_hub_is_reachable_if_it_answers_for_itself(
    monkeypatch: pytest.MonkeyPatch, status: int, reachable: bool
) -> None:
    hub = Hub(status)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    try:
        assert hub_reachable() is reachable
        assert hub_reachable() is reachable
    finally:
        hub.close()
    assert hub.requests == 1


def test_a_hub_that_does_not_answer_in_time_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(None)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    began = time.monotonic()
    try:
        assert not hub_reachable(0.3)
        assert time.monotonic() - began < 2
    finally:
        hub.close()


def test_a_name_that_takes_long_to_resolve_does_not_hold_up_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hangs(url: str, timeout_s: float) -> bool:
        return over.wait(20)

    monkeypatch.setattr("embedsweep.hub._answers", hangs)
    began = time.monotonic()
    assert not hub_reachable(0.2)
    assert time.monotonic() - began < 5
    over.set()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid", "not a url"])
def test_a_hub_that_refuses_connections_is_unreachable(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    began = time.monotonic()
    assert not hub_reachable()
    assert time.monotonic() - began < 4


def test_offline_mode_makes_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(200)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    try:
        assert not hub_reachable()
    finally:
        hub.close()
    assert hub.requests == 0


def _cache_file(cache: Path, repo: str, commit: str, name: str, branch: str = "main") -> Path:
    repository = cache / "hub" / repo
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / name).write_text("{}")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    return snapshot


@pytest.mark.parametrize("name", ["config.json", "modules.json"])
@pytest.mark.parametrize("revision", [None, "main", NEW])
def test_a_cached_model_is_found_by_branch_and_commit(own_cache: Path, name: str, revision: str | None) -> None:
    snapshot = _cache_file(own_cache, "models--someone--encoder", NEW, name)
    assert cached_model_path("someone/encoder", revision) == snapshot


@pytest.mark.parametrize(
    ("repo_id", "revision"),
    [("someone/other", None), ("someone/encoder", OLD), ("someone/encoder", "v2"), ("/a/local/folder", None)],
)
def test_a_model_that_is_not_cached_has_no_path(own_cache: Path, repo_id: str, revision: str | None) -> None:
    _cache_file(own_cache, "models--someone--encoder", NEW, "config.json")
    assert cached_model_path(repo_id, revision) is None


def test_a_snapshot_without_a_configuration_is_no_model(own_cache: Path) -> None:
    _cache_file(own_cache, "models--someone--encoder", NEW, "README.md")
    assert cached_model_path("someone/encoder", None) is None


def _cache_dataset(
    cache: Path, splits: dict[str, Columns], commit: str = NEW, subset: str = "es", suffix: str = ""
) -> Path:
    """Write a dataset into the cache as ``datasets`` does after building it."""
    folder = cache / "datasets" / "someone___stsb_multi_mt" / subset / "0.0.0" / f"{commit}{suffix}"
    folder.mkdir(parents=True)
    infos = datasets.SplitDict(dataset_name="stsb_multi_mt")
    features = None
    for split, columns in splits.items():
        table = datasets.Dataset.from_dict(columns)
        features = table.features
        with datasets.arrow_writer.ArrowWriter(
            path=str(folder / f"stsb_multi_mt-{split}.arrow"), features=features
        ) as writer:
            writer.write_table(table.data.table)
            writer.finalize()
        infos.add(datasets.SplitInfo(name=split, num_examples=len(table)))
    datasets.DatasetInfo(features=features, splits=infos, config_name=subset, version="0.0.0").write_to_directory(
        str(folder)
    )
    return folder


def _no_download(*args: object, **kwargs: object) -> None:
    raise AssertionError("the hub was contacted")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached dataset needs neither the probe nor a download."""
    monkeypatch.setattr("embedsweep.data.sources.hub_reachable", _no_download)
    monkeypatch.setattr(datasets, "load_dataset", _no_download)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("dev", ["dev", "validation"])
def test_a_cached_dataset_is_read_without_network(own_cache: Path, dev: str) -> None:
    _cache_dataset(own_cache, {"train": ROWS, dev: ROWS, "test": ROWS})
    splits = _read(replace(STSB, splits={"train": ("train",), "dev": (dev,), "test": ("test",)}))
    assert splits["train"].sentences1 == ("a", "c")
    assert splits["dev"].sentences2 == ("b", "d")
    assert splits["test"].scores == (0.2, 0.5)
    assert splits["dev"].origin == f"someone/stsb_multi_mt@ffffffffffff[es] {dev}"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("revision", "text"), [(OLD, "old"), ("v1", "old"), (NEW, "new"), (None, "new")])
def test_of_several_cached_revisions_the_requested_one_is_read(
    own_cache: Path, revision: str | None, text: str
) -> None:
    # The old one was built last: the date alone would choose it.
    for commit, word in ((NEW, "new"), (OLD, "old")):
        rows: Columns = {**ROWS, "sentence1": [word, word]}
        _cache_dataset(own_cache, {"train": rows, "dev": rows, "test": rows}, commit)
    _cache_file(own_cache, "datasets--someone--stsb_multi_mt", OLD, "README.md", branch="v1")
    _cache_file(own_cache, "datasets--someone--stsb_multi_mt", NEW, "README.md")
    assert _read(replace(STSB, revision=revision))["train"].sentences1 == (text, text)


@pytest.mark.usefixtures("no_network")
def test_without_a_language_the_only_subset_is_read(own_cache: Path) -> None:
    _cache_dataset(own_cache, SPLITS, subset="plain_text")
    assert _read(replace(STSB, language=None))["train"].origin == "someone/stsb_multi_mt@ffffffffffff train"


@pytest.mark.parametrize(
    "config", [replace(STSB, revision=OLD), replace(STSB, language="en"), replace(STSB, revision="v2")]
)
def test_another_revision_or_language_in_the_cache_is_not_used(own_cache: Path, config: DataConfig) -> None:
    _cache_dataset(own_cache, SPLITS)
    with pytest.raises(ConfigError, match="is not in the local cache"):
        _read(config)


def test_an_interrupted_build_is_not_used(own_cache: Path) -> None:
    _cache_dataset(own_cache, SPLITS, suffix=".incomplete")
    with pytest.raises(ConfigError, match="is not in the local cache"):
        _read(STSB)


@pytest.mark.parametrize(
    ("config", "offline", "message"),
    [
        (
            STSB,
            False,
            "data.hub: someone/stsb_multi_mt is not in the local cache, and http://127.0.0.1:9 does not answer: say "
            "INSTEAD",
        ),
        (
            replace(STSB, revision="v2"),
            True,
            "data.hub: someone/stsb_multi_mt at revision v2 is not in the local cache, and HF_HUB_OFFLINE is set, so "
            "the hub was not contacted: say INSTEAD",
        ),
    ],
)
def test_an_unreachable_hub_is_reported_at_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, config: DataConfig, offline: bool, message: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    began = time.monotonic()
    with pytest.raises(ConfigError) as error:
        _read(config)
    assert time.monotonic() - began < 4
    assert str(error.value) == message


def test_the_environment_selects_the_hub_and_the_cache(own_cache: Path) -> None:
    script = f"from embedsweep.data.load import load_train\nfrom embedsweep.config.trial import *\nload_train({STSB!r})"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(own_cache), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert "data.hub: someone/stsb_multi_mt is not in the local cache, and http://127.0.0.1:9 does not" in done.stderr


class Download:
    """A fake ``datasets.load_dataset`` that records its arguments and returns a value or raises."""

    def __init__(self, answer: dict[str, Columns] | Exception) -> None:
        self.answer = answer
        self.requested: tuple[Any, ...] = ()

    def __call__(self, path: str, *, name: str | None, revision: str | None) -> Any:
        self.requested = (path, name, revision)
        if isinstance(self.answer, Exception):
            raise self.answer
        return datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in self.answer.items()})


def _downloading(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Columns] | Exception) -> Download:
    download = Download(answer)
    monkeypatch.setattr(datasets, "load_dataset", download)
    monkeypatch.setattr("embedsweep.data.sources.hub_reachable", lambda: True)
    return download


def test_a_dataset_that_is_not_cached_is_downloaded_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    download = _downloading(monkeypatch, SPLITS)
    splits = _read(replace(STSB, revision="v2"))
    assert download.requested == ("someone/stsb_multi_mt", "es", "v2")
    assert splits["train"].scores == (0.2, 0.5)
    assert splits["train"].origin == "someone/stsb_multi_mt@v2[es] train"


def test_columns_may_be_positions_so_that_one_option_serves_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    _downloading(monkeypatch, SPLITS)
    assert _read(replace(STSB, columns=(1, 0, 2)))["train"].sentences1 == ("b", "d")
    with pytest.raises(ConfigError) as error:
        _read(replace(STSB, columns=(0, 1, 3)))
    assert str(error.value).splitlines()[0] == (
        "someone/stsb_multi_mt@main[es] train: has no column 3 (data.columns): there are 0 to 2"
    )


def test_a_refusal_by_the_hub_is_reported_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    _downloading(monkeypatch, ValueError("BuilderConfig 'xx' not found.\nAvailable: ['en', 'es']"))
    with pytest.raises(ConfigError) as error:
        _read(replace(STSB, language="xx"))
    assert str(error.value) == (
        "data.hub: someone/stsb_multi_mt cannot be loaded: "
        "ValueError: BuilderConfig 'xx' not found. Available: ['en', 'es']"
    )


def test_problems_of_all_splits_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Columns = {"sentence1": ["a", None, "e"], "sentence2": ["b", "d", "f"], "similarity_score": [1.0, 9.0, None]}
    other: Columns = {"sentence1": ["a", "c"], "sentence2": ["b", "d"], "score": [1.0, 2.0]}
    _downloading(monkeypatch, {"train": wrong, "validation": other, "testing": ROWS})
    source = "someone/stsb_multi_mt@main[es]"
    config = replace(STSB, splits={**STSB.splits, "dev": ("validation",)})
    with pytest.raises(ConfigError) as error:
        _read(config)
    assert str(error.value).splitlines() == [
        f"{source} train, row 2: sentence1 is None, not a text: choose another column, or leave the row out",
        f"{source} train, row 3: score None is not a number: fill it in or leave the row out",
        f"{source} train, row 2: score 9 is outside data.score_range=[0,5]: fix it, or, if the scale is another, set "
        "data.score_range (the scores here go from 1 to 9)",
        f"{source} validation: has no column 'similarity_score' (data.columns), but 'score': if it is the same, "
        "set 'data.columns=[sentence1,sentence2,score]'",
        f"data.splits.test: {source} has no split 'test'; it has 'testing'",
    ]


def test_only_the_requested_splits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Columns = {"text": ["a"]}
    _downloading(monkeypatch, {"train": wrong, "test": ROWS})
    assert list(_read(STSB, ("test",))) == ["test"]


def test_a_split_may_join_several_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Columns = {"sentence1": ["x", "z"], "sentence2": ["y", "w"], "similarity_score": [3.0, 5.0]}
    _downloading(monkeypatch, {"train": ROWS, "dev": other})
    train = _read(replace(STSB, splits={"train": ("dev", "train"), "dev": (), "test": ()}), ("train",))["train"]
    assert train.sentences1 == ("x", "z", "a", "c")
    assert train.origin == "someone/stsb_multi_mt@main[es] dev + someone/stsb_multi_mt@main[es] train"


def test_rows_are_kept_by_their_values_whatever_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Columns = {**ROWS, "sentence1": ["a", "b"], "year": [2012, 2013], "checked": [True, True]}
    more: Columns = {key: [*values, *values] for key, values in rows.items()}
    more["similarity_score"] = [1.0, 2.0, 3.0, 4.0]
    _downloading(monkeypatch, {"train": more})
    config = replace(STSB, where={"year": "2013", "checked": "true"})
    assert _read(config, ("train",))["train"].scores == (0.4, 0.8)


def test_classes_are_read_by_name_and_rows_without_one_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["entailment", "contradiction"])}
    )
    table = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"train": table}))
    monkeypatch.setattr("embedsweep.data.sources.hub_reachable", lambda: True)
    config = replace(STSB, shape="class_texts", columns=("text", "label"), splits={**STSB.splits, "dev": ()})
    found = read_hub("someone/stsb_multi_mt", config, ("train",), "")["train"]
    assert [row.cells for row in found.rows] == [("a", "entailment"), ("b", "contradiction"), ("c", None)]
    with pytest.raises(ConfigError, match="train, row 3: label None names no class: fill it in or leave the row out"):
        checked_examples(found, config)
