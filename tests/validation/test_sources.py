"""What a command finds on this machine: files of data, models, the hub, devices, a folder to write in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub.constants
import pytest

from embedsweep import machine as devices_module
from embedsweep.validation.rules import model as model_rules
from embedsweep.validation.rules.model import check_model
from embedsweep.validation.single import pass_single
from tests.configs import PLAIN
from tests.validation.commands import (
    GOOD,
    HEADER,
    data_folder,
    errors,
)

pytestmark = pytest.mark.usefixtures("composed_once", "a_machine_without_gpu_or_hub")


WRONG_FILES = [
    ({"dev": None}, "{}/dev.csv: no such file; in its folder: 'test.csv'"),
    ({"train": ""}, "{}/train.csv: is empty"),
    ({"train": HEADER}, "{}/train.csv: has no rows"),
    ({"dev": HEADER + "a,b,1\n"}, "{}/dev.csv: has only one row; at least two with different scores are needed"),
    (
        {"test": HEADER + "a,b,2\nc,d,2\n"},
        "{}/test.csv: all 2 scores are 2, so nothing can be ranked: is the third of data.columns the score?",
    ),
    (
        {"train": HEADER + "a,b,0\nc,d,7\n"},
        "{}/train.csv, line 3: score 7 is outside data.score_range=[0,5]: fix it, or, if the scale is another, set "
        "data.score_range (the scores here go from 0 to 7)",
    ),
    (
        {"train": HEADER + "a,b,0\nc,d,5\ne,f,nan\n"},
        "{}/train.csv, line 4: score 'nan' is not a finite number: fill it in or leave the row out",
    ),
    (
        {"train": GOOD + "e,,3\n"},
        "{}/train.csv, line 4: sentence2 is empty: fill it in or leave the row out",
    ),
    (
        {"train": "sentence1,sentence2,score\nseñal,b,0\nc,d,5\n".encode("latin-1")},
        "{}/train.csv, line 2: byte 3 (0xf1) is not UTF-8; the file is probably latin-1: convert it with iconv "
        "-f latin1 -t utf-8",
    ),
    (
        {"train": GOOD.replace(",", ";")},
        "{}/train.csv: one column found with ',' between columns; with ';' there are 3: set 'data.delimiter=\";\"'",
    ),
    (
        {"train": "text1,text2,score\na,b,0\nc,d,5\n"},
        "{}/train.csv: has no columns 'sentence1', 'sentence2' (data.columns), but 'text1', 'text2': if these are the "
        "same in this order, set 'data.columns=[text1,text2,score]'",
    ),
]


@pytest.mark.parametrize(("splits", "message"), WRONG_FILES, ids=lambda value: str(value)[:40])
def test_invalid_data_is_reported_with_its_file_and_line(
    tmp_path: Path, splits: dict[str, str | bytes | None], message: str
) -> None:
    folder = data_folder(tmp_path / "mine", **splits)
    first = errors("data=csv", f"data.path={folder}")[0]
    assert first.startswith(message.format(folder))


def test_the_invalid_files_of_all_splits_are_reported_at_once(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "mine", train=HEADER, dev=None, test=HEADER + "a,b,9\nc,d,1\n")
    places = [problem.split(": ")[0] for problem in errors("data=csv", f"data.path={folder}")]
    assert places == [f"{folder}/train.csv", f"{folder}/dev.csv", f"{folder}/test.csv, line 2"]


def test_na_and_null_are_texts(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "mine", train=GOOD + "NA,null,3\n")
    assert pass_single(["data=csv", f"data.path={folder}"]).config.data.path == str(folder)


def test_a_missing_folder_is_reported_with_its_neighbours(tmp_path: Path) -> None:
    data_folder(tmp_path / "mine")
    (refusal,) = errors("data=csv", f"data.path={tmp_path}/mime")
    assert refusal.startswith(f"data.path: there is no folder {tmp_path}/mime; folders in {tmp_path}: 'mine'")


def test_an_unreachable_hub_is_reported_for_model_and_data_with_what_to_do() -> None:
    assert errors("model=minilm", "data=stsb_multi_mt") == [
        "model.path: sentence-transformers/all-MiniLM-L6-v2 is neither a folder nor in the local cache, and "
        "http://127.0.0.1:9 does not "
        "answer; use model=pretrained model.path=FOLDER, or model=tiny, which needs no download",
        errors("data=stsb_multi_mt")[0],
    ]
    (refusal,) = errors("data=stsb_multi_mt", "data.language=es")
    assert refusal.startswith("data.hub: PhilipMay/stsb_multi_mt")
    assert "data.path" in refusal


def _model(folder: Path, weights: str = "model.safetensors", config: str | None = None) -> Path:
    folder.mkdir(parents=True)
    text = json.dumps({"max_position_embeddings": 512}) if config is None else config
    (folder / "config.json").write_text(text)
    (folder / weights).touch()
    (folder / "tokenizer.json").touch()
    return folder


def _cached(hub: Path, weights: str = "model.safetensors") -> None:
    repository = hub / "models--ORG--NAME"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    _model(repository / "snapshots" / ("a" * 40), weights)


PRETRAINED = ("model=pretrained", "model.path=ORG/NAME")


def test_a_cached_model_passes_without_the_hub(tmp_path: Path) -> None:
    _cached(tmp_path / "hub")
    assert pass_single(PRETRAINED).config.model.path == "ORG/NAME"
    assert errors(*PRETRAINED, "model.max_seq_length=513") == [
        "model.max_seq_length: the model has positions for 512 tokens, but got 513"
    ]


def test_a_cached_model_with_a_pickle_only_is_refused(tmp_path: Path) -> None:
    _cached(tmp_path / "hub", "pytorch_model.bin")
    assert errors(*PRETRAINED) == [
        "model.path: the copy of ORG/NAME in the local cache has no safetensors weights; run: hf download ORG/NAME"
    ]


def test_a_hub_that_answers_lets_an_uncached_model_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_rules, "hub_reachable", lambda: True)
    assert pass_single(PRETRAINED).config.model.path == "ORG/NAME"


class _HubOfModels(BaseHTTPRequestHandler):
    """Answers as the hub does when it is asked about a model."""

    answer: ClassVar[dict[str, Any]] = {}
    error: ClassVar[str | None] = None

    def do_GET(self) -> None:
        self.send_response(200 if self.error is None else 404)
        if self.error is not None:
            self.send_header("X-Error-Code", self.error)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"id": "ORG/NAME", **self.answer}).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        pass


@pytest.fixture
def hub_of_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_HubOfModels]]:
    class Handler(_HubOfModels):
        pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(model_rules, "hub_reachable", lambda: True)
    yield Handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("files", "config", "error", "message"),
    [
        (["model.safetensors"], {"model_type": "bert"}, None, None),
        (["0_Transformer/model.safetensors"], {"model_type": "bert", "auto_map": {}}, None, None),
        (["pytorch_model.bin", "onnx/model.safetensors"], {}, None, "ORG/NAME has no safetensors weights on the hub"),
        (["model.safetensors"], {"model_type": "own", "auto_map": {}}, None, "ORG/NAME needs code that is not the"),
        ([], {}, "RepoNotFound", "the hub has no model ORG/NAME, or it is private: then set HF_TOKEN"),
        ([], {}, "RevisionNotFound", "the hub has no revision v9 of ORG/NAME"),
        ([], {}, "GatedRepo", "ORG/NAME is gated: accept its conditions on the hub, and set HF_TOKEN"),
    ],
)
def test_a_model_that_is_not_here_yet_is_checked_by_what_the_hub_says(
    files: list[str],
    config: dict[str, Any],
    error: str | None,
    message: str | None,
    hub_of_models: type[_HubOfModels],
) -> None:
    hub_of_models.answer = {"siblings": [{"rfilename": name} for name in files], "config": config}
    hub_of_models.error = error
    found = check_model(replace(PLAIN, path="ORG/NAME", revision="v9"))
    assert [problem.message.startswith(message or "") for problem in found] == ([] if message is None else [True])


@pytest.mark.parametrize(
    ("weights", "config", "message"),
    [
        ("model.safetensors", "{torn", "{0}/config.json is not the configuration of a model (a JSON object)"),
        ("model.safetensors", "[]", "{0}/config.json is not the configuration of a model (a JSON object)"),
        (
            "pytorch_model.bin",
            None,
            "{0} has no safetensors weights, and a pickle could execute code: if you trust it, load it and save it "
            "again with save_pretrained()",
        ),
    ],
)
def test_a_folder_with_a_model_that_cannot_be_loaded_is_refused(
    tmp_path: Path, weights: str, config: str | None, message: str
) -> None:
    folder = _model(tmp_path / "model", weights, config)
    assert errors("model=pretrained", f"model.path={folder}") == [f"model.path: {message.format(folder)}"]


def test_a_folder_without_a_model_a_file_and_a_missing_path_have_different_messages(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    messages = {
        tmp_path / "empty": f"{tmp_path}/empty holds no model: it has neither config.json nor modules.json",
        tmp_path / "file": f"{tmp_path}/file is a file; a model is a folder with config.json or modules.json",
        tmp_path / "none": f"there is no folder {tmp_path}/none, and it is not a hub id (ORG/NAME) either",
    }
    for path, message in messages.items():
        assert errors("model=pretrained", f"model.path={path}") == [f"model.path: {message}"]


def test_a_folder_with_a_model_passes_up_to_its_length(tmp_path: Path) -> None:
    words = ("model=pretrained", f"model.path={_model(tmp_path / 'model')}")
    assert pass_single([*words, "model.max_seq_length=512"]).config.model.max_seq_length == 512
    assert errors(*words, "model.max_seq_length=513") == [
        "model.max_seq_length: the model has positions for 512 tokens, but got 513"
    ]


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("auto", None),
        ("cuda", None),
        ("cuda:1", None),
        ("cuda:2", "this machine has 2 CUDA devices, cuda:0 to cuda:1, but got cuda:2"),
        ("cuda:x", "must be auto, cpu, cuda, cuda:N or mps, but got cuda:x"),
    ],
)
def test_a_device_must_exist_on_this_machine(monkeypatch: pytest.MonkeyPatch, device: str, problem: str | None) -> None:
    monkeypatch.setattr(devices_module, "cuda_device_count", lambda: 2)
    if problem is None:
        assert pass_single([f"trainer.device={device}", "trainer.precision=fp16"]).config.trainer.device == device
    else:
        assert errors(f"trainer.device={device}") == [f"trainer.device: {problem}"]


def test_a_working_directory_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert [problem.split(":")[0] for problem in errors("loss=mnrl")] == ["sweeps", "mlruns"]
