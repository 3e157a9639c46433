"""Publish a model: check its files and card, remove local paths from the card, copy it to a folder or to the Hub."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from embedsweep.card.metadata import with_license
from embedsweep.card.text import without_paths
from embedsweep.card.write import with_part
from embedsweep.errors import ConfigError, EmbedsweepError, Problem
from embedsweep.files import user_path
from embedsweep.secrets import redact

CARD = "README.md"
PLACEHOLDER = "sentence_transformers_model_id"
"""The name in the library's card of a model that has none yet."""

EXECUTABLE = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npz", ".h5", ".msgpack"}
    | {".pyc", ".so", ".pyd", ".dll", ".dylib"}
)
"""Suffixes of weights other than safetensors, most of them pickles, which can execute code when they are loaded; and of
compiled code."""

CODE = ".py"
"""The suffix of code that comes with a model: it runs for those who load it with ``trust_remote_code=True``."""

TRAINING = (
    "checkpoint-*",
    "optimizer.*",
    "scheduler.*",
    "scaler.*",
    "rng_state*",
    "trainer_state.json",
    "complete.json",
    "training_args.*",
)
"""Files of a trainer that are not needed to use the model."""

REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LOCAL_KEYS = re.compile(r"^\| `(?:model|data|evaluation)\.[\w.]*path` \| `([^`]+)` \|$", re.MULTILINE)
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")


@dataclass(frozen=True)
class CardChanges:
    """What is changed in a card when its model is published.

    Attributes:
        license_id: the licence, in the metadata and the description; None keeps what the card says.
        found: how a study found the model, in Markdown; None keeps what the card says.
    """

    license_id: str | None = None
    found: str | None = None


class HubApi(Protocol):
    """The part of ``huggingface_hub.HfApi`` that is used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        """Create a repository; raise where it exists and ``exist_ok`` is false."""

    def repo_info(self, repo_id: str) -> Any:
        """Return the attributes of a repository, ``private`` among them."""

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object:
        """Upload all files of a folder as one commit."""


def is_on_the_hub(to: str) -> bool:
    """Return whether ``--to`` names the Hub: ORG/NAME does, unless there is a folder ORG here.

    In doubt it is a folder, so that nothing is uploaded that was meant to stay.
    """
    return REPO_ID.fullmatch(to) is not None and not Path(to.partition("/")[0]).exists()


def find_problems(model: Path, *, with_code: bool) -> list[Problem]:
    """Return all reasons why the model in a folder cannot be published as it is.

    Args:
        model: the folder.
        with_code: whether its Python files are published, too.
    """
    paths = [path for path in sorted(model.rglob("*")) if not _is_left_out(path.relative_to(model))]
    names = [path.relative_to(model) for path in paths]
    problems = []
    if not any(name.suffix == ".safetensors" for name in names):
        problems.append(Problem(str(model), "has no safetensors weights"))
    problems += [Problem(str(model / name), text) for name in names if (text := _file_problem(model, name, with_code))]
    if not (model / CARD).is_file():
        problems.append(Problem(str(model / CARD), "is missing: a model is published with its card"))
    else:
        problems += find_card_problems(model / CARD)
    return problems


def _is_left_out(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _file_problem(model: Path, name: Path, with_code: bool) -> str | None:
    """Return why a file or folder of a model is not published; None if it is."""
    path = model / name
    root, real = os.path.realpath(model), os.path.realpath(path)
    is_outside = os.path.commonpath([root, real]) != root
    if is_outside or _is_left_out(Path(os.path.relpath(real, root))):
        advice = "outside of the model's folder: replace it by a copy if it is to be published"
        return f"is a link to {real}, {advice if is_outside else 'which is not published itself: remove it'}"
    if not path.is_file():
        return None if path.is_dir() else "is neither a file nor a folder: remove it"
    if any(part.match(pattern) for part in (name, *name.parents) for pattern in TRAINING):
        return "is a file of the trainer, not needed to use the model: publish the folder of the finished model"
    if name.suffix in EXECUTABLE:
        return "is not safetensors, and such files can execute code: save the model again by save_pretrained()"
    if name.suffix == CODE and not with_code:
        return "is code, which runs for those who trust the model: read it, and add --code to publish it"
    return None


def find_card_problems(path: Path) -> Iterator[Problem]:
    """Yield what is wrong with a card: secrets, and metadata that the Hub would refuse, as far as is known offline."""
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if redact(line) != line:
            yield Problem(f"{path}, line {number}", "seems to contain a password or token: remove it")
    from huggingface_hub import ModelCard

    try:
        data = ModelCard(text).data
    except Exception as error:  # a YAML error, or a ValueError of the library's own checks
        yield Problem(str(path), f"its metadata cannot be read: {' '.join(str(error).split())}")
        return
    yield from (Problem(str(path), message) for message in _metadata_problems(data))


def _metadata_problems(data: Any) -> Iterator[str]:
    """Yield violations of the Hub's rules for metadata: https://huggingface.co/docs/hub/model-cards."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    for language in _listed(data.language):
        if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            yield f"language {language!r} is neither an ISO 639 code of two or three letters nor multilingual"
    for key in ("datasets", "base_model"):
        for name in _listed(getattr(data, key)):
            try:
                validate_repo_id(name)
            except HFValidationError:
                if key != "base_model" or not _is_local(str(name)):  # a local path is removed from the published card
                    yield f"{key} {name!r} is not an id on the Hub"
    for key in ("tags", "metrics"):
        if not all(isinstance(item, str) for item in _listed(getattr(data, key))):
            yield f"{key} must be a list of texts"
    emissions = data.get("co2_eq_emissions")
    grams = emissions.get("emissions") if isinstance(emissions, dict) else emissions
    if emissions is not None and (isinstance(grams, bool) or not isinstance(grams, int | float)):
        yield f"co2_eq_emissions must be grams, or have them under emissions, but got {grams!r}"


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def published_card(text: str, name: str, changes: CardChanges) -> str:
    """Return the card to publish: changed, with the model's name, and local paths reduced to their last part.

    Args:
        text: the card as it was saved, metadata at its head.
        name: the id on the Hub, or the folder's name.
        changes: what is changed in it.
    """
    from huggingface_hub import ModelCard

    license_id = changes.license_id
    card: Any = ModelCard(text)
    if changes.found is not None:
        card.text = with_part(card.text, "found", changes.found)
    bases = [str(base) for base in _listed(card.data.base_model)]
    paths = {path for path in (*bases, *_LOCAL_KEYS.findall(text)) if _is_local(path)}
    if any(_is_local(base) for base in bases):
        kept = [base for base in bases if not _is_local(base)]
        card.data.base_model = kept or None
    if license_id is not None:
        card.data.license = license_id
        card.text = with_license(card.text, license_id)
    text = str(card)
    for path in sorted(paths, key=len, reverse=True):
        # The path "." has no last part, and its dot occurs everywhere.
        last = Path(path).name.replace("\\", r"\\")
        text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", last, text) if last else text
    for folder in {str(Path.cwd()), str(user_path("~"))} - {"/", "~"}:
        text = re.sub(rf"(?<![\w/]){re.escape(folder)}/(?:[\w.@+-]+/)*([\w.@+-]+)", r"\1", text)
    return _prose_without_paths(text).replace(PLACEHOLDER, name)


def _prose_without_paths(text: str) -> str:
    """Cut every path in the card's prose to its last part; metadata, code and tables stay as they are."""
    head, body = re.fullmatch(r"(---\n.*?\n---\n)?(.*)", text, re.DOTALL).groups("")  # type: ignore[union-attr]
    lines, is_code = [], False
    for line in body.split("\n"):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        lines.append(line if is_code or line.lstrip().startswith("|") else without_paths(line))
    return head + "\n".join(lines)


def _is_local(path: str) -> bool:
    """Return whether it is a path of this machine, and not an id on the Hub."""
    return path.startswith(("/", "~", ".", "\\")) or path.count("/") > 1 or Path(path).exists()


def publish_to_folder(model: Path, target: Path, changes: CardChanges) -> None:
    """Copy the model with its published card into ``target``; it appears whole or not at all.

    Args:
        model: a folder in which :func:`find_problems` finds none.
        target: a folder in which :func:`target_problem` finds none; a model in it is replaced, and stays if that fails.
        changes: what is changed in the card.

    Raises:
        EmbedsweepError: the folder cannot be written, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            staged = stage(model, Path(temporary) / "new", target.name, changes)
            _replace(target, staged, Path(temporary) / "old")
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise EmbedsweepError(f"{target} cannot be written: {reason}") from error


def _replace(target: Path, staged: Path, old: Path) -> None:
    """Replace ``target`` by ``staged``; the former is restored if that fails or a signal interrupts it."""
    try:
        if target.exists():
            target.rename(old)
        staged.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise


def target_problem(model: Path, target: Path, *, overwrite: bool) -> str | None:
    """Return why the model cannot be put into ``target``, or None."""
    if target.exists() and not target.is_dir():
        return f"{target} is a file: give a folder"
    inner, outer = target.resolve(), model.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        return f"{target} and the model's folder {model} contain each other: give another folder"
    if not target.is_dir() or not any(target.iterdir()):
        return None
    if not overwrite:
        return f"{target} is not empty: give another folder, or --overwrite"
    if not (target / "modules.json").is_file():
        return f"{target} holds something other than a model, and is not overwritten: give another folder"
    return None


def publish_to_hub(
    model: Path, repo_id: str, api: HubApi, changes: CardChanges, *, public: bool, message: str, overwrite: bool
) -> None:
    """Upload the model with its published card to the Hub, as one commit.

    Args:
        model: a folder in which :func:`find_problems` finds none.
        repo_id: ``ORG/NAME``.
        api: the Hub's client.
        changes: what is changed in the card.
        public: whether a new repository is public; else it is private.
        message: of the commit.
        overwrite: whether the repository may exist already.

    Raises:
        ConfigError: the repository exists already and is public, without ``public``.
        EmbedsweepError: the Hub refuses it.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    with tempfile.TemporaryDirectory(prefix="embedsweep-publish-") as temporary:
        staged = stage(model, Path(temporary) / "new", repo_id, changes)
        try:
            api.create_repo(repo_id, private=not public, exist_ok=overwrite)
            if overwrite and not public and not api.repo_info(repo_id).private:
                # exist_ok leaves a repository as it is, and so a public one public.
                raise ConfigError.single("--to", f"{repo_id} is public on the Hub: add --public, or give another name")
            api.upload_folder(repo_id=repo_id, folder_path=str(staged), commit_message=message)
        except LocalTokenNotFoundError:
            raise EmbedsweepError("the Hub needs a token: run `hf auth login`, or set HF_TOKEN") from None
        except (HfHubHTTPError, OSError) as error:
            is_conflict = getattr(getattr(error, "response", None), "status_code", None) == 409
            advice = "; it exists already: give another name, or --overwrite" if is_conflict else ""
            reason = redact(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            raise EmbedsweepError(f"the Hub refused {repo_id}: {reason}{advice}") from None


def stage(model: Path, staged: Path, name: str, changes: CardChanges) -> Path:
    """Copy the model with its published card to ``staged``; files whose names start with a dot are left out.

    Links are followed: `find_problems` has found none that leads out of the folder.
    """
    shutil.copytree(model, staged, ignore=shutil.ignore_patterns(".*"))
    card = staged / CARD
    card.write_text(published_card(card.read_text(encoding="utf-8"), name, changes), encoding="utf-8")
    return staged
