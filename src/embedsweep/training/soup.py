"""Average the weights of trained models greedily ("greedy soup").

Wortsman et al. 2022, https://arxiv.org/abs/2203.05482, algorithm 1: models that began from the same weights are tried
in the order of their dev scores, and one stays in the average if the average scores better with it than without. The
paper also keeps one that changes nothing.

The average is the mean that ``SentenceTransformer.merge`` computes with its default method, ``linear``; that function
holds all models in memory, and here there are two: the average so far and the model that is added.

The folder of a soup has ``train.log``, ``scores/``, ``model/`` and, as its last file, ``soup.json``.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.card.average import write_average_card
from embedsweep.config.answer import Soup
from embedsweep.config.metrics import direction_of
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.config.values import shown
from embedsweep.evaluation.scores import write_scores
from embedsweep.files import MODEL, write_atomically
from embedsweep.training.folder import train_log

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NO_MODEL = "whose models were deleted once finals were decided, or are on another machine"

SOUP_FILE = "soup.json"
LOG = "train.log"

OF_TRAINING = frozenset({"name", "save_dtype", "lora", "lr", "trust_remote_code"})
"""Keys of ``model`` in which models may differ and be averaged: adapters are merged into the weights when a model is
saved, and weights are averaged in float32."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """A trained model that may become part of an average.

    Attributes:
        number: the trial's number.
        folder: the trial's, with its model.
        config: the trial's configuration.
        result: the trial's result.
    """

    number: int
    folder: Path
    config: TrialConfig
    result: TrialResult


def make_soup(folder: Path, members: Sequence[Member], say: Callable[[str], None] = lambda _: None) -> Soup:
    """Average models greedily, score the average on dev and save it; one that is whole is read instead.

    The steering dev metric decides, scored as in the training of the best member. The average is saved in the precision
    that this one was saved in, with a card. Nothing is saved where no average is better than the best member alone.

    Args:
        folder: of the soup; whatever an interrupted attempt, or one with other members, left there is removed.
        members: the models to try, in any order; those whose model is not there are left out.
        say: is told of each one that was tried.

    Returns:
        The soup, without test scores.

    Raises:
        TrialError: an average cannot be scored.
        OSError: the disk is full, or the folder cannot be written.
    """
    if (done := _read(folder, members)) is not None:
        return done
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ranked, left_out = _ranked(members)
    if len(ranked) < 2:
        soup = Soup((), (), (), left_out, {}, None, {}, "fewer than two models can be averaged")
    else:
        with train_log(folder / LOG):
            soup = _averaged(folder, ranked, left_out, say)
    _write(folder, members, soup)
    return soup


def score_soup(folder: Path, members: Sequence[Member], soup: Soup) -> Soup:
    """Score a soup on test and on further benchmarks, record the scores in its folder and card, and return it.

    Args:
        folder: of the soup; it holds a model.
        members: those that :func:`make_soup` was given; their models are not needed.
        soup: what it returned.
    """
    from embedsweep.evaluation.evaluator import score_further, score_test
    from embedsweep.models.build import load_trained, torch_device

    by_number = {member.number: member for member in members}
    kept = [by_number[number] for number in soup.kept]
    config = kept[0].config
    with train_log(folder / LOG):
        model = load_trained(folder / MODEL, config.model, torch_device(config.trainer.device))
        test, benchmarks = score_test(config, model, folder), score_further(config, model)
    _write_card(folder, folder, kept, soup, test, benchmarks)
    scored = replace(soup, test={**test, **benchmarks})
    _write(folder, members, scored)
    return scored


def _read(folder: Path, members: Sequence[Member]) -> Soup | None:
    """Return the soup in a folder; None if there is none that is whole and was made of these members."""
    try:
        tree: dict[str, Any] = json.loads((folder / SOUP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    soup = Soup.of(tree["soup"])
    is_whole = soup.reason is not None or (folder / MODEL).is_dir()
    return soup if is_whole and tree["members"] == _numbers(members) else None


def _write(folder: Path, members: Sequence[Member], soup: Soup) -> None:
    tree = {"members": _numbers(members), "soup": asdict(soup)}
    write_atomically(folder / SOUP_FILE, json.dumps(tree, indent=1), durable=True)


def _numbers(members: Sequence[Member]) -> list[int]:
    return sorted(member.number for member in members)


def _ranked(members: Sequence[Member]) -> tuple[list[Member], dict[int, str]]:
    """Return the members that can be averaged, the best on dev first, and why each other one cannot."""
    found = [member for member in members if (member.folder / MODEL).is_dir()]
    found.sort(key=lambda member: (_rank(member.config, member.result.objective), member.number))
    left_out = {member.number: NO_MODEL for member in members if member not in found}
    for member in found[1:]:
        if difference := _difference(found[0].config.model, member.config.model):
            left_out[member.number] = f"{difference} as in final {found[0].number}"
    return [member for member in found if member.number not in left_out], left_out


def _rank(config: TrialConfig, score: float) -> float:
    return -score if direction_of(config.objective) == "maximize" else score


def _difference(best: ModelConfig, other: ModelConfig) -> str | None:
    """Return why two models cannot be averaged, in words; None if they can."""
    for field in fields(ModelConfig):
        own, theirs = getattr(best, field.name), getattr(other, field.name)
        if field.name not in OF_TRAINING and own != theirs:
            return f"as model.{field.name} is {shown(theirs)}, not {shown(own)}"
    return None


def _averaged(folder: Path, ranked: Sequence[Member], left_out: dict[int, str], say: Callable[[str], None]) -> Soup:
    """Average greedily; save the average if it has more than one member."""
    from embedsweep.evaluation.dev import dev_evaluator
    from embedsweep.evaluation.evaluator import scores_of
    from embedsweep.models.build import load_trained, torch_device
    from embedsweep.models.loading import save_model

    first, *others = ranked
    config, device = first.config, torch_device(first.config.trainer.device)
    average = load_trained(first.folder / MODEL, config.model, device)
    evaluator = dev_evaluator(config, average)
    # As it is loaded: saved in bfloat16, it may score otherwise than it did in its training.
    dev, items = scores_of(evaluator, average), evaluator.item_scores()
    kept, scores = [first], [dev[config.objective]]
    for place, member in enumerate(others, start=2):
        added = load_trained(member.folder / MODEL, member.config.model, device)
        average_into(added, average, len(kept))
        metrics = scores_of(evaluator, added)
        scores.append(score := metrics[config.objective])
        stays = _rank(config, score) < _rank(config, dev[config.objective])
        outcome = "kept" if stays else "left out"
        _log.info("final %d: %s %.6f, %s", member.number, config.objective, score, outcome)
        say(f"soup, {place} of {len(ranked)}: final {member.number} {outcome}")
        if stays:
            average, dev, items = added, metrics, evaluator.item_scores()
            kept.append(member)
    tried, numbers = tuple(member.number for member in ranked), tuple(member.number for member in kept)
    if len(kept) == 1:
        reason = f"no average of final {first.number} with another one has a better {config.objective}"
        return Soup(tried, numbers, tuple(scores), left_out, {}, None, {}, reason)
    soup = Soup(tried, numbers, tuple(scores), left_out, dev, items.interval(config.objective), {}, None)
    write_scores(folder, items)
    save_model(average, folder / MODEL, config.model.save_dtype or "float32")
    _write_card(folder, first.folder, kept, soup, {}, {})
    return soup


def average_into(model: SentenceTransformer, average: SentenceTransformer, count: int) -> None:
    """Change a model into the mean of itself and of the models that an average is of.

    Args:
        model: changed in place; its weights are in float32.
        average: the mean of ``count`` models of the same shapes.
        count: at least 1.
    """
    import torch

    others = dict(_weights(average))
    with torch.no_grad():
        for name, weight in _weights(model):
            weight.lerp_(others[name], count / (count + 1))


def _weights(model: SentenceTransformer) -> Iterator[tuple[str, Any]]:
    """Yield every parameter and buffer of floating numbers, one that has several names once."""
    for tensors in (model.named_parameters(), model.named_buffers()):
        yield from ((name, tensor) for name, tensor in tensors if tensor.is_floating_point())


def _write_card(
    folder: Path,
    source: Path,
    kept: Sequence[Member],
    soup: Soup,
    test: Mapping[str, float],
    benchmarks: Mapping[str, float],
) -> None:
    """Write the card, with what all trainings that are in the soup cost together."""
    config = kept[0].config
    result = replace(
        kept[0].result,
        objective=soup.dev[config.objective],
        dev=soup.dev,
        interval=soup.interval,
        test=test,
        benchmarks=benchmarks,
        emissions=Emissions.sum_of(member.result.emissions for member in kept),
    )
    scores = {member.number: member.result.objective for member in kept}
    write_average_card(folder / MODEL, source / MODEL, config, result, scores, len(soup.tried))
