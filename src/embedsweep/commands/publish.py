"""``embedsweep publish``: a model with its card into a folder, or on the Hub.

Owns the arguments and what is said. Nothing goes anywhere without ``--to``, and nothing before all of it was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from embedsweep.card.metadata import LICENSE
from embedsweep.card.publish import (
    HubApi,
    find_problems,
    is_on_the_hub,
    publish_to_folder,
    publish_to_hub,
    target_problem,
)
from embedsweep.commands.arguments import Argument, Takes, Typed, Verb, asks_for_help, parse, print_help
from embedsweep.commands.encode import MODEL, model_of
from embedsweep.commands.models import ChosenModel
from embedsweep.config.compose import open_composer
from embedsweep.console import say
from embedsweep.hub import hub_reachable, why_unreachable

VERB = Verb(
    name="publish",
    about="Puts a model with its card into a folder, or on the Hugging Face Hub.",
    places=(MODEL,),
    arguments=(
        Argument(
            "to", Takes.WORD, "TO", "ORG/NAME is the Hub, unless there is a folder ORG here; anything else is a folder"
        ),
        Argument("public", Takes.NOTHING, "", "lets everybody see it on the Hub; without it the repository is private"),
        Argument("message", Takes.WORD, "TEXT", "of the commit on the Hub"),
        Argument("license", Takes.WORD, "ID", "the licence, as the Hub calls it; without it the card's own stays"),
        Argument("overwrite", Takes.NOTHING, "", "replaces a model in the folder, adds a commit to a repository"),
    ),
)


@dataclass(frozen=True)
class _Asked:
    """The arguments, checked."""

    model: ChosenModel
    to: str
    public: bool
    message: str
    overwrite: bool
    license_id: str | None


def run(words: Sequence[str], console: Console) -> int:
    """Runs ``embedsweep publish`` with the words after it.

    Returns:
        0.

    Raises:
        ConfigError: all that is wrong with the arguments or the model; nothing went out.
        EmbedsweepError: the Hub does not take it, or the folder cannot be written.
    """
    if asks_for_help(words):
        print_help(VERB, console)
        return 0
    asked = _read(parse(VERB, words))
    model = Path(asked.model.source)
    if is_on_the_hub(asked.to):
        publish_to_hub(
            model,
            asked.to,
            _api(),
            public=asked.public,
            message=asked.message,
            overwrite=asked.overwrite,
            license_id=asked.license_id,
        )
        visible = "public" if asked.public else "private"
        say(console, f"{asked.model.what} is on the Hub, {visible}: https://huggingface.co/{asked.to}")
    else:
        target = Path(asked.to).expanduser()
        publish_to_folder(model, target, license_id=asked.license_id)
        say(console, f"{asked.model.what} is in {target}")
    return 0


def _api() -> HubApi:
    from huggingface_hub import HfApi

    return HfApi()


def _read(typed: Typed) -> _Asked:
    reader = typed.reader
    to, public = reader.optional_text("to"), reader.boolean("public")
    message, overwrite = reader.text("message"), reader.boolean("overwrite")
    license_id = reader.optional_text("license")
    if license_id is not None and LICENSE.fullmatch(license_id) is None:
        typed.problem(
            "license", f"must be an id such as apache-2.0 or cc-by-4.0, in small letters, but got {license_id}"
        )
    reader.finish()
    with open_composer() as composer:
        model = model_of(typed, composer)
    if model is not None and not model.is_folder:
        typed.problem(model.word, "is on the Hub already; publish takes a model of this disk")
    elif model is not None:
        typed.problems.extend(find_problems(Path(model.source)))
    if to is None and not typed.is_told("to"):
        typed.problem("to", "must be given, nothing goes out without it: --to FOLDER or --to ORG/NAME")
    elif to is not None:
        _check_target(typed, to, model, overwrite=overwrite)
    typed.check()
    if to is None or model is None:
        raise ValueError("what is missing was noted as a problem")
    return _Asked(model, to, public, message, overwrite, license_id)


def _check_target(typed: Typed, to: str, model: ChosenModel | None, *, overwrite: bool) -> None:
    if is_on_the_hub(to):
        if not hub_reachable():
            typed.problem("to", f"{to} is on the Hub, and {why_unreachable()}; for a folder say ./{to}")
        return
    for key in {"public", "message"} & typed.said:
        typed.problem(key, f"is for the Hub, and {to} is a folder: leave it out")
    if model is not None and model.is_folder:
        target = Path(to).expanduser()
        if (problem := target_problem(Path(model.source), target, overwrite=overwrite)) is not None:
            typed.problem("to", problem)
