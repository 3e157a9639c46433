"""``embedsweep publish``: put a model with its card into a folder, or on the Hub.

Nothing goes anywhere without ``--to``, nor before everything was checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from embedsweep.commands.arguments import Option, ParsedArguments, Verb, parse
from embedsweep.commands.models import MODEL, ResolvedModel, read_model_argument
from embedsweep.console import say
from embedsweep.files import user_path
from embedsweep.hub import hub_reachable, why_unreachable


def _license_id(word: str) -> str:
    if LICENSE.fullmatch(word) is None:
        message = f"must be an id such as apache-2.0 or cc-by-4.0, in small letters, but got {word}"
        raise argparse.ArgumentTypeError(message)
    return word


def run(words: Sequence[str], console: Console) -> int:
    """Run ``embedsweep publish`` with the words after it and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments or the model; nothing was published.
        EmbedsweepError: the Hub refuses it, or the folder cannot be written.
    """
    arguments = parse(VERB, words)
    values = arguments.values
    model = _check(arguments)
    if is_on_the_hub(values.to):
        publish_to_hub(
            Path(model.source),
            values.to,
            _api(),
            public=values.public,
            message=values.message,
            overwrite=values.overwrite,
            license_id=values.license,
        )
        visible = "public" if values.public else "private"
        say(console, f"{model.description} is on the Hub, {visible}: https://huggingface.co/{values.to}")
    else:
        target = user_path(values.to)
        publish_to_folder(Path(model.source), target, license_id=values.license)
        say(console, f"{model.description} is in {target}")
    return 0


def _api() -> HubApi:
    from huggingface_hub import HfApi

    return HfApi()


def _check(arguments: ParsedArguments) -> ResolvedModel:
    """Return the model, or raise all that is wrong with it, the target and the other arguments."""
    model = read_model_argument(arguments)
    if model is not None and not model.is_folder:
        arguments.add_problem(model.argument, "is on the Hub already; publish takes a model on this disk")
        model = None
    elif model is not None:
        arguments.problems.extend(find_problems(Path(model.source), with_code=arguments.values.code))
    if arguments.values.to is not None:
        _check_target(arguments, model)
    arguments.check()
    assert model is not None, "what is missing was noted as a problem"
    return model


def _check_target(arguments: ParsedArguments, model: ResolvedModel | None) -> None:
    to = arguments.values.to
    if is_on_the_hub(to):
        if not hub_reachable():
            arguments.add_problem("--to", f"{to} is on the Hub, and {why_unreachable()}; for a folder say ./{to}")
        return
    for key in sorted({"public", "message"} & arguments.given):
        arguments.add_problem(f"--{key}", f"is for the Hub, and {to} is a folder: leave it out")
    if model is not None:
        problem = target_problem(Path(model.source), user_path(to), overwrite=arguments.values.overwrite)
        if problem is not None:
            arguments.add_problem("--to", problem)


VERB = Verb(
    name="publish",
    summary="put a model with its card into a folder, or on the Hub",
    run=run,
    positionals=(MODEL,),
    options=(
        Option(
            "--to",
            "TARGET",
            "ORG/NAME is the Hub, unless there is a folder ORG here; anything else is a folder",
            is_required=True,
        ),
        Option("--public", "", "make a new repository on the Hub public; without it the repository is private"),
        Option("--message", "TEXT", "of the commit on the Hub"),
        Option("--license", "ID", "the licence, as the Hub calls it; without it the card's own stays", _license_id),
        Option("--code", "", "publish the model's *.py files, too; without it, a model that has some is refused"),
        Option("--overwrite", "", "replace a model in the folder, add a commit to a repository"),
    ),
)
