"""``embedsweep publish``: put a model with its card into a folder, on the Hub, or into MLflow's model registry.

Nothing goes anywhere without ``--to`` or ``--register``, nor before everything was checked.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from embedsweep.card.metadata import LICENSE
from embedsweep.card.publish import (
    CardChanges,
    HubApi,
    find_problems,
    is_on_the_hub,
    publish_to_folder,
    publish_to_hub,
    stage,
    target_problem,
)
from embedsweep.commands.arguments import Option, ParsedArguments, Verb, parse
from embedsweep.commands.models import MODEL, ResolvedModel, load_model, read_model_argument
from embedsweep.commands.tracking import TRACKING_URI
from embedsweep.config.study import TrackingConfig
from embedsweep.console import say
from embedsweep.files import SINGLE, user_path
from embedsweep.hub import hub_reachable, why_unreachable
from embedsweep.validation.single import read_store

_NAME = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
_RESERVED = re.compile(r"latest|v[0-9]+", re.IGNORECASE)
"""What MLflow does not take as an alias."""


def _license_id(word: str) -> str:
    if LICENSE.fullmatch(word) is None:
        message = f"must be an id such as apache-2.0 or cc-by-4.0, in small letters, but got {word}"
        raise argparse.ArgumentTypeError(message)
    return word


def _registered_name(word: str) -> str:
    if _NAME.fullmatch(word) is None:
        message = f"must be of letters, digits, hyphens and low lines, but got {word}"
        raise argparse.ArgumentTypeError(message)
    return word


def _alias(word: str) -> str:
    if _NAME.fullmatch(word) is None or _RESERVED.fullmatch(word):
        message = f"must be of letters, digits, hyphens and low lines, and not latest, v1, v2, ..., but got {word}"
        raise argparse.ArgumentTypeError(message)
    return word


def run(words: Sequence[str], console: Console) -> int:
    """Run ``embedsweep publish`` with the words after it and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments or the model; nothing was published.
        EmbedsweepError: the Hub or MLflow refuses it, or the folder cannot be written.
    """
    arguments = parse(VERB, words)
    values = arguments.values
    model, tracking = _check(arguments)
    changes = CardChanges(values.license, _how_found(model))
    if tracking is not None:  # before the Hub: there it cannot be taken back, here repeating it finds the same version
        _register(model, values.register, values.alias, changes, tracking, console)
    if values.to is not None and is_on_the_hub(values.to):
        publish_to_hub(
            Path(model.source),
            values.to,
            _api(),
            changes,
            public=values.public,
            message=values.message,
            overwrite=values.overwrite,
        )
        visible = "public" if values.public else "private"
        say(console, f"{model.description} is on the Hub, {visible}: https://huggingface.co/{values.to}")
    elif values.to is not None:
        target = user_path(values.to)
        publish_to_folder(Path(model.source), target, changes)
        say(console, f"{model.description} is in {target}")
    return 0


def _how_found(model: ResolvedModel) -> str | None:
    """Return the card's section on how a study found its answer; None of other models."""
    if model.study is None or not model.is_answer:
        return None
    from embedsweep.report.found import found_section
    from embedsweep.report.results import study_results
    from embedsweep.study.reading import read_study
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        return found_section(study_results(read_study(model.study)))


def _register(
    model: ResolvedModel, name: str, alias: str, changes: CardChanges, tracking: TrackingConfig, console: Console
) -> None:
    """Register the model, with its published card, in MLflow's registry."""
    loaded = load_model(model, "cpu")  # imports torch, which MLflow's flavor needs, too
    from embedsweep.models.digest import folder_content
    from embedsweep.tracking.registry import Registration, register_model

    folder = Path(model.source)
    registration = Registration(
        name, alias, folder_content(folder).digest, model.description, model.study or SINGLE, model.run_id
    )
    with tempfile.TemporaryDirectory(prefix="embedsweep-publish-") as temporary:
        staged = stage(folder, Path(temporary) / "new", name, changes)
        version = register_model(tracking, registration, loaded, staged, lambda line: say(console, line))
    was, card = ("is", "") if version.is_new else ("was already", "; that version's card stays as it was")
    place = f"version {version.number} of {name} in MLflow's store {version.store}"
    say(console, f"{model.description} {was} {place}{card}")
    load = f"mlflow.sentence_transformers.load_model('models:/{name}@{alias}')"
    say(console, f"load it: mlflow.set_tracking_uri({version.store!r}); {load}")


def _api() -> HubApi:
    from huggingface_hub import HfApi

    return HfApi()


def _check(arguments: ParsedArguments) -> tuple[ResolvedModel, TrackingConfig | None]:
    """Return the model, and the store to register it in; raise all that is wrong with the arguments."""
    values = arguments.values
    model = read_model_argument(arguments)
    if model is not None and not model.is_folder:
        arguments.add_problem(model.argument, "is on the Hub already; publish takes a model on this disk")
        model = None
    elif model is not None:
        arguments.problems.extend(find_problems(Path(model.source), with_code=values.code))
    is_wrong = any(problem.where in ("--to", "--register") for problem in arguments.problems)
    if values.to is None and values.register is None and not is_wrong:
        arguments.add_problem("--to", "must be given: --to TARGET, or --register NAME, or both")
    if values.to is not None:
        _check_target(arguments, model)
    if values.register is None and "register" not in arguments.given:
        for key in sorted({"alias", "tracking_uri"} & arguments.given):
            option = key.replace("_", "-")
            arguments.add_problem(f"--{option}", "is for MLflow's registry: leave it out, or add --register NAME")
    overrides = [f"tracking.uri={values.tracking_uri}"] if values.tracking_uri is not None else []
    tracking = arguments.collect(read_store, overrides) if values.register is not None else None
    arguments.check()
    assert model is not None, "what is missing was noted as a problem"
    return model, tracking


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
    summary="a model with its card to a folder, the Hub or MLflow's registry",
    run=run,
    positionals=(MODEL,),
    options=(
        Option("--to", "TARGET", "ORG/NAME is the Hub, unless there is a folder ORG here; anything else is a folder"),
        Option("--register", "NAME", "register the model in MLflow under this name; repeated, once", _registered_name),
        Option("--alias", "WORD", "what the registered version is called: models:/NAME@WORD", _alias),
        TRACKING_URI,
        Option("--public", "", "make a new repository on the Hub public; without it the repository is private"),
        Option("--message", "TEXT", "of the commit on the Hub"),
        Option("--license", "ID", "the licence, as the Hub calls it; without it the card's own stays", _license_id),
        Option("--code", "", "publish the model's *.py files, too; without it, a model that has some is refused"),
        Option("--overwrite", "", "replace a model in the folder, add a commit to a repository"),
    ),
)
