from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from mlflow import MlflowClient
from rich.console import Console
from sentence_transformers import SentenceTransformer

from embedsweep.card.publish import CardChanges, find_problems, is_on_the_hub, published_card
from embedsweep.commands import publish
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import ConfigError, EmbedsweepError, TrackingError
from embedsweep.models.tiny import tiny_model_path

CARD = """\
---
language:
- es
base_model: {base}
tags:
- sentence-transformers
co2_eq_emissions:
  emissions: 0.5
model-index:
- name: SentenceTransformer
  results:
  - task: {{type: semantic-similarity}}
    dataset: {{name: dev, type: dev}}
    metrics:
    - {{type: spearman_cosine, value: 0.7}}
---
# A model
Base model: {base} (`model=pretrained`).

    model = SentenceTransformer("sentence_transformers_model_id")

| `model.path` | `{base}` |
| `data.path` | `{data}` |
| `data.hub` | `PhilipMay/stsb_multi_mt` |
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model and its card in ``mine``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_path(), tmp_path / "mine")
    _write_card(CARD.format(base="/models/some-bert", data="../data/my_pairs"))
    return tmp_path


def _write_card(text: str) -> None:
    Path("mine/README.md").write_text(text, encoding="utf-8")


def _run(*words: str) -> str:
    output = io.StringIO()
    assert publish.run(words, Console(file=output)) == 0
    return output.getvalue()


def _problems(*words: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        publish.run(words, Console(file=io.StringIO()))
    return [(problem.where, problem.message) for problem in caught.value.problems]


class _Hub:
    """The part of the Hub that publishing uses; it keeps what was uploaded."""

    def __init__(self, existing: dict[str, bool] | None = None) -> None:
        self.private = dict(existing or {})
        self.calls: list[str] = []
        self.files: dict[str, str] = {}
        self.message = ""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append("create_repo")
        if repo_id in self.private and not exist_ok:
            raise HfHubHTTPError(
                "409 Conflict", response=httpx2.Response(409, request=httpx2.Request("POST", "http://h"))
            )
        self.private.setdefault(repo_id, private)

    def repo_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        self.calls.append("upload_folder")
        self.message = commit_message
        assert repo_id in self.private
        folder = Path(folder_path)
        self.files = {
            str(path.relative_to(folder)): path.read_text(encoding="utf-8", errors="replace")
            for path in folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    hub = _Hub({"me/public": False, "me/private": True})
    monkeypatch.setattr(publish, "_api", lambda: hub)
    monkeypatch.setattr(publish, "hub_reachable", lambda: True)
    return hub


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("me/model", True),
        ("me/model.v2", True),
        ("model", False),
        ("./me/model", False),
        ("/me/model", False),
        ("~/model", False),
        ("me/my/model", False),
        ("mine/model", False),  # there is a folder mine
        ("me/", False),
    ],
)
def test_only_an_id_of_the_hub_without_a_folder_of_that_name_is_on_the_hub(to: str, expected: bool) -> None:
    assert is_on_the_hub(to) is expected


def test_a_folder_gets_the_model_and_a_card_that_calls_it_by_its_name() -> None:
    assert _run("mine", "--to", "./out/my-model") == "the folder mine is in out/my-model\n"
    names = {str(path.relative_to("mine")) for path in Path("mine").rglob("*")}
    assert {str(path.relative_to("out/my-model")) for path in Path("out/my-model").rglob("*")} == names
    assert sorted(Path("out").iterdir()) == [Path("out/my-model")]
    text = Path("out/my-model/README.md").read_text(encoding="utf-8")
    assert 'SentenceTransformer("my-model")' in text
    assert "sentence_transformers_model_id" in Path("mine/README.md").read_text(encoding="utf-8")


def test_a_private_repository_gets_the_model_as_one_commit(hub: _Hub) -> None:
    assert "private: https://huggingface.co/me/model" in _run("mine", "--to", "me/model", "--message", "The first")
    assert (hub.calls, hub.private["me/model"], hub.message) == (["create_repo", "upload_folder"], True, "The first")
    assert {"README.md", "model.safetensors", "modules.json"} <= set(hub.files)
    assert 'SentenceTransformer("me/model")' in hub.files["README.md"]


def test_a_repository_is_public_only_with_the_flag(hub: _Hub) -> None:
    _run("mine", "--to", "me/model", "--public")
    assert hub.private["me/model"] is False


def test_an_existing_repository_is_left_alone_without_overwrite(hub: _Hub) -> None:
    with pytest.raises(EmbedsweepError, match="it exists already: give another name, or --overwrite"):
        _run("mine", "--to", "me/private")
    assert hub.files == {}
    _run("mine", "--to", "me/private", "--overwrite")
    assert "README.md" in hub.files


def test_nothing_private_goes_into_a_public_repository(hub: _Hub) -> None:
    ((where, message),) = _problems("mine", "--to", "me/public", "--overwrite")
    assert (where, "is public on the Hub" in message, hub.files) == ("--to", True, {})
    _run("mine", "--to", "me/public", "--overwrite", "--public")
    assert "README.md" in hub.files


def test_without_a_target_nothing_is_published(hub: _Hub) -> None:
    ((where, message),) = _problems("mine")
    assert (where, message, hub.calls) == ("--to", "must be given: --to TARGET, or --register NAME, or both", [])


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("pytorch_model.bin", "mine/pytorch_model.bin", "can execute code"),
        ("2_Dense/weights.pt", "mine/2_Dense/weights.pt", "can execute code"),
        ("__pycache__/modeling.cpython-311.pyc", "mine/__pycache__/modeling.cpython-311.pyc", "can execute code"),
        ("modeling.py", "mine/modeling.py", "add --code to publish it"),
        ("1_Own/module.py", "mine/1_Own/module.py", "add --code to publish it"),
        ("optimizer.pt", "mine/optimizer.pt", "a file of the trainer"),
        ("trainer_state.json", "mine/trainer_state.json", "a file of the trainer"),
        ("checkpoint-500/config.json", "mine/checkpoint-500/config.json", "a file of the trainer"),
    ],
)
def test_a_model_with_unsafe_or_training_files_is_refused(name: str, where: str, message: str, hub: _Hub) -> None:
    (Path("mine") / name).parent.mkdir(exist_ok=True)
    (Path("mine") / name).write_bytes(b"x")
    ((path, text),) = _problems("mine", "--to", "me/model")
    assert (path, message in text, hub.calls) == (where, True, [])


def test_code_is_published_where_that_is_asked_for(hub: _Hub) -> None:
    Path("mine/modeling.py").write_text("x = 1\n", encoding="utf-8")
    _run("mine", "--to", "me/model", "--code")
    assert hub.files["modeling.py"] == "x = 1\n"


@pytest.mark.parametrize("kind", ["file", "folder", "through another link", "missing file"])
def test_links_out_of_the_models_folder_are_not_followed(kind: str, hub: _Hub, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "key.txt").write_text("private", encoding="utf-8")
    link = Path("mine/notes")
    if kind == "through another link":
        Path("mine/.hidden").symlink_to(private)
        link.symlink_to(".hidden/key.txt")
    else:
        link.symlink_to({"file": private / "key.txt", "folder": private}.get(kind, private / "none"))
    ((where, message),) = _problems("mine", "--to", "me/model")
    assert (where, "outside of the model's folder" in message, hub.files) == ("mine/notes", True, {})
    ((where, _),) = _problems("mine", "--to", "./out")
    assert (where, Path("out").exists()) == ("mine/notes", False)


@pytest.mark.parametrize("target", [".git", ".git/config"])
def test_links_to_hidden_files_of_the_model_are_not_followed(target: str, hub: _Hub) -> None:
    Path("mine/.git").mkdir()
    Path("mine/.git/config").write_text("private", encoding="utf-8")
    Path("mine/notes").symlink_to(target)
    ((where, message),) = _problems("mine", "--to", "me/model")
    assert (where, "which is not published itself" in message, hub.files) == ("mine/notes", True, {})


def test_links_inside_the_models_folder_become_files(hub: _Hub) -> None:
    Path("mine/weights").mkdir()
    Path("mine/model.safetensors").rename("mine/weights/blob.safetensors")
    Path("mine/model.safetensors").symlink_to("weights/blob.safetensors")
    _run("mine", "--to", "./out")
    assert not any(path.is_symlink() for path in Path("out").rglob("*"))
    assert Path("out/model.safetensors").read_bytes() == Path("mine/weights/blob.safetensors").read_bytes()


def test_a_model_without_card_or_safetensors_is_refused() -> None:
    Path("mine/README.md").unlink()
    Path("mine/model.safetensors").unlink()
    assert [problem.where for problem in find_problems(Path("mine"), with_code=False)] == ["mine", "mine/README.md"]


def test_a_card_with_a_secret_is_refused_and_the_secret_is_not_printed() -> None:
    token = "hf_" + "a1B2c3D4e5" * 3
    _write_card(CARD.format(base="me/base", data="x") + f"\nsee https://huggingface.co with {token}\n")
    ((where, message),) = _problems("mine", "--to", "./out")
    assert where == f"mine/README.md, line {CARD.count(chr(10)) + 2}"
    assert "password or token" in message
    assert token not in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- es\n", "- spanish\n", "language 'spanish'"),
        ("base_model: me/base", "base_model: me/my base", "base_model 'me/my base' is not an id"),
        ("language:\n", "datasets: [a/b/c]\nlanguage:\n", "datasets 'a/b/c' is not an id"),
        ("  emissions: 0.5", "  emissions: much", "must be grams"),
        ("- sentence-transformers", "- 3", "tags must be a list of texts"),
        ("    dataset: {name: dev, type: dev}\n", "", "metadata cannot be read"),
        ("language:\n", "language: [\n", "metadata cannot be read"),
    ],
)
def test_metadata_that_the_hub_would_refuse_is_refused(old: str, new: str, message: str) -> None:
    card = CARD.format(base="me/base", data="x")
    assert old in card
    _write_card(card.replace(old, new, 1))
    ((where, text),) = _problems("mine", "--to", "./out")
    assert (where, message in text) == ("mine/README.md", True)


def test_the_published_card_has_names_in_place_of_local_paths(workplace: Path) -> None:
    text = Path("mine/README.md").read_text(encoding="utf-8") + f"\nsee {workplace}/sweeps/my-study/notes.txt here\n"
    published = published_card(text, "me/model", CardChanges())
    for local in ("/models", "../data", str(workplace)):
        assert local not in published
    assert "Base model: some-bert (`model=pretrained`)." in published
    assert "| `data.path` | `my_pairs` |" in published
    assert "see notes.txt here" in published
    assert "| `data.hub` | `PhilipMay/stsb_multi_mt` |" in published
    data: Any = ModelCard(published).data
    assert (data.base_model, data.language, data.eval_results[0].metric_value) == (None, ["es"], 0.7)


def test_a_base_model_of_the_hub_keeps_its_name() -> None:
    published = published_card(CARD.format(base="me/base", data="."), "me/model", CardChanges())
    data: Any = ModelCard(published).data
    assert data.base_model == "me/base"
    assert "Base model: me/base (" in published
    assert "# A model\n" in published  # and a path of one dot takes no other dot out
    assert "PhilipMay/stsb_multi_mt" in published


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("./full", "is not empty"),
        ("./file", "is a file"),
        ("./mine", "contain each other"),
        ("./mine/inside", "contain each other"),
        (".", "contain each other"),
    ],
)
def test_a_target_that_is_not_an_empty_folder_is_refused(to: str, message: str) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine", encoding="utf-8")
    Path("file").write_text("mine", encoding="utf-8")
    ((where, text),) = _problems("mine", "--to", to)
    assert (where, message in text) == ("--to", True)


def test_overwrite_replaces_a_model_and_nothing_else() -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine", encoding="utf-8")
    assert "holds something other than a model" in _problems("mine", "--to", "./full", "--overwrite")[0][1]
    _run("mine", "--to", "./out")
    Path("out/old.json").write_text("{}", encoding="utf-8")
    _run("mine", "--to", "./out", "--overwrite")
    assert not Path("out/old.json").exists()
    assert Path("out/model.safetensors").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["full", "mine", "out"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_model_that_cannot_be_replaced_stays(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    _run("mine", "--to", "./out")
    Path("out/old.json").write_text("{}", encoding="utf-8")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(EmbedsweepError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        _run("mine", "--to", "./out", "--overwrite")
    if isinstance(error, OSError):
        assert str(caught.value) == "out cannot be written: Input/output error"
    assert Path("out/old.json").exists()
    assert Path("out/model.safetensors").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["mine", "out"]


def test_a_folder_that_cannot_be_written_is_reported() -> None:
    with pytest.raises(EmbedsweepError, match=r"^/proc/nowhere/model cannot be written: "):
        _run("mine", "--to", "/proc/nowhere/model")


def test_the_licence_is_written_to_metadata_and_description_and_has_the_hubs_form() -> None:
    _write_card(CARD.format(base="me/base", data="x") + "\n<!-- - **License:** Unknown -->\n")
    _run("mine", "--to", "./out", "--license", "cc-by-4.0")
    text = Path("out/README.md").read_text(encoding="utf-8")
    data: Any = ModelCard(text).data
    assert data.license == "cc-by-4.0"
    assert "\n- **License:** cc-by-4.0\n" in text
    ((where, message),) = _problems("mine", "--to", "./more", "--license", "Apache 2")
    assert (where, "such as apache-2.0" in message) == ("--license", True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("read from /srv/data/pairs.csv, and more", "read from pairs.csv, and more"),
        ("/srv/data/pairs.csv and/or ~/b.csv are at a 1/2", "pairs.csv and/or b.csv are at a 1/2"),
        ("from `file:///tmp/me/x.csv`.", "from `x.csv`."),
        ("[a](https://host/a/b) </code> <br/>", "[a](https://host/a/b) </code> <br/>"),
        ("| /a/b | c |", "| /a/b | c |"),
        ("```\ncat /a/b\n```\n/a/b", "```\ncat /a/b\n```\nb"),
    ],
)
def test_paths_in_prose_are_cut_to_their_last_part(line: str, expected: str) -> None:
    published = published_card(CARD.format(base="me/base", data="x") + f"\n{line}\n", "me/model", CardChanges())
    assert published.endswith(f"\n{expected}\n")


def test_options_of_the_hub_are_refused_for_a_folder() -> None:
    assert _problems("mine", "--to", "./out", "--public") == [
        ("--public", "is for the Hub, and ./out is a folder: leave it out")
    ]


def test_a_hub_that_does_not_answer_is_reported_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "hub_reachable", lambda: False)
    ((where, message),) = _problems("mine", "--to", "me/model")
    assert (where, "for a folder say ./me/model" in message) == ("--to", True)


@pytest.mark.slow
def test_sentence_transformers_alone_loads_a_published_model_with_the_same_embeddings(workplace: Path) -> None:
    texts = ["El gato duerme", "The king sang"]
    _run("mine", "--to", "./out/model")
    code = (
        "import json, sys\n"
        "sys.modules['embedsweep'] = None\n"
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer('out/model', device='cpu')\n"
        "print(json.dumps(model.encode(json.loads(sys.argv[1])).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(texts)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = SentenceTransformer("mine", device="cpu").encode(texts).tolist()
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_a_model_is_registered_with_its_published_card(mlflow_store: TrackingConfig, workplace: Path) -> None:
    _write_card(CARD.format(base=str(workplace / "base"), data="x"))
    store = ("--tracking-uri", mlflow_store.uri)
    first, address = _run("mine", "--register", "best", *store).splitlines()
    assert first.startswith("the folder mine is version 1 of best in MLflow's store sqlite:///")
    where = f"mlflow.set_tracking_uri('{mlflow_store.uri}')"
    assert address == f"load it: {where}; mlflow.sentence_transformers.load_model('models:/best@champion')"
    again, _ = _run("mine", "--register", "best", "--alias", "next", *store).splitlines()
    assert " was already version 1 of best in " in again
    assert again.endswith("; that version's card stays as it was")
    version = MlflowClient(mlflow_store.uri).get_model_version_by_alias("best", "next")
    folder = Path(unquote(urlsplit(version.source).path))
    card = (folder / "model.sentence_transformer" / "README.md").read_text(encoding="utf-8")
    assert str(workplace) not in card
    assert 'SentenceTransformer("best")' in card


def test_nothing_goes_to_the_hub_where_mlflow_refuses_the_model(hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TrackingError("the store is full")

    monkeypatch.setattr("embedsweep.tracking.registry.register_model", refuse)
    with pytest.raises(TrackingError, match="is full"):
        _run("mine", "--to", "me/model", "--register", "best")
    assert hub.calls == []


@pytest.mark.parametrize(
    ("words", "where", "message"),
    [
        (("--to", "out", "--alias", "best"), "--alias", "is for MLflow's registry: leave it out, or add --register"),
        (("--register", "a/b"), "--register", "must be of letters, digits, hyphens and low lines, but got a/b"),
        (("--register", "a/b", "--alias", "best"), "--register", "must be of letters, digits, hyphens and low lines"),
        (("--register", "a/b", "--to", "out"), "--register", "must be of letters, digits, hyphens and low lines"),
        (("--register", "a", "--alias", "v2"), "--alias", "and not latest, v1, v2, ..., but got v2"),
        (
            ("--register", "a", "--tracking-uri", "sqlite://"),
            "tracking.uri",
            "names no file: use sqlite:///mlruns/mlflow.db",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(words: tuple[str, ...], where: str, message: str) -> None:
    ((found, said),) = _problems("mine", *words)
    assert where in found
    assert message in said
