"""sentence-transformers' own card as text: where its parts are, and how ours take their places.

Owns every pattern of the library's template (``sentence_transformer/model_card_template.md`` of 6.2). Knows nothing of
what is told. Ours stand between markers, so that a later writing finds and replaces them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

EVALUATION = re.compile(r"^## Evaluation\n.*?(?=^(?:<!--\n)?## )", re.DOTALL | re.MULTILINE)
"""Scores of the process that saved the model, and so no later ones."""

TRAINING_DATA = re.compile(r"^### Training Datasets?\n.*?(?=^### |^## )", re.DOTALL | re.MULTILINE)
"""Named only where there are several, statistics of the first 100 examples."""

TRAINING_TIME = re.compile(r"^### Training Time\n.*?(?=^### |^## )", re.DOTALL | re.MULTILINE)
"""Of the last attempt only."""

INTRODUCTION = re.compile(
    r"(?<=\[sentence-transformers\]\(https://www\.SBERT\.net\) model ).*?(?=\. It maps )", re.DOTALL
)
VERSIONS = re.compile(r"^### Framework Versions\n(?:- .*\n)*", re.MULTILINE)
FACTS = {
    name: re.compile(rf"^(?:<!-- )?- \*\*{name}s?:\*\*.*(?:\n    - .*)*", re.MULTILINE)
    for name in ("Base model", "Training Dataset", "Language", "License")
}
"""Lines of the model's description; commented out where the library knows nothing."""

_DATASET = re.compile(r"^#### .*?(?=^#### |\Z)", re.DOTALL | re.MULTILINE)
_TOKENS = re.compile(r"<ul><li>min: (\S+) tokens</li><li>mean: (\S+) tokens</li><li>max: (\S+) tokens</li></ul>")
_COUNTED = re.compile(r"statistics based on the first (\d+) samples")
_LOSS = re.compile(r"^\* Loss: .*?(?=^</details>|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class DatasetFacts:
    """What the library found out about one training dataset.

    Attributes:
        tokens: of each text column the fewest, mean and most tokens of an example, as written.
        counted: how many examples these are of.
        loss: its item about the loss, with a link and the parameters; None where there is none.
    """

    tokens: tuple[tuple[str, str, str], ...]
    counted: int
    loss: str | None


def dataset_facts(text: str) -> list[DatasetFacts]:
    """The library's findings about each training dataset, in the order they were trained on."""
    section = TRAINING_DATA.search(text)
    return [_facts(found[0]) for found in _DATASET.finditer(section[0])] if section else []


def _facts(part: str) -> DatasetFacts:
    counted, loss = _COUNTED.search(part), _LOSS.search(part)
    return DatasetFacts(
        tokens=tuple((found[1], found[2], found[3]) for found in _TOKENS.finditer(part)),
        counted=int(counted[1]) if counted else 0,
        loss=loss[0].strip() if loss else None,
    )


def replaced(text: str, pattern: re.Pattern[str], words: str) -> str:
    """The card with the first match of a pattern replaced by these very words."""
    return pattern.sub(lambda _: words, text, count=1)


def with_license(text: str, license_id: str) -> str:
    """The card whose description of the model says the licence."""
    return replaced(text, FACTS["License"], f"- **License:** {license_id}")


def with_guide(loss: str, name: str) -> str:
    """The item about a loss whose guide is called by its name; the library knows no name of a model from a folder."""
    return re.sub(r'("guide": )"SentenceTransformer\([^\n]*?\)"', lambda found: found[1] + json.dumps(name), loss)


def has_part(text: str, name: str) -> bool:
    """Whether our part of this name was written before."""
    return f"<!-- embedsweep: {name} -->" in text


def with_part(text: str, name: str, body: str, instead_of: re.Pattern[str] | None, before: tuple[str, ...]) -> str:
    """The card with a part of ours.

    Args:
        text: the card.
        name: of the part; what was written under it before is replaced.
        body: Markdown.
        instead_of: the library's part whose place it takes, if that is there.
        before: beginnings of lines; else it goes before the first of these that is there, or to the end.
    """
    begin, end = f"<!-- embedsweep: {name} -->", f"<!-- embedsweep: {name}, end -->"
    block = f"{begin}\n{body}\n\n{end}\n\n"
    ours = re.compile(f"^{re.escape(begin)}\n.*?^{re.escape(end)}\n\n", re.DOTALL | re.MULTILINE)
    for pattern in (ours, instead_of):
        if pattern is not None and pattern.search(text):
            return replaced(text, pattern, block)
    for line in before:
        found = re.search(f"^{re.escape(line)}", text, re.MULTILINE)
        if found:
            return text[: found.start()] + block + text[found.start() :]
    return f"{text.rstrip()}\n\n{block}"


MADE_OF: Mapping[str, tuple[str, ...]] = {
    "CachedGISTEmbedLoss": ("GISTEmbedLoss", "CachedMultipleNegativesRankingLoss"),
    "OnlineContrastiveLoss": ("ContrastiveLoss",),
}
"""A loss without a citation -> those with the papers it follows, as the library's own documentation names them."""

_AFTER_CITATIONS = re.compile(r"^<!--\n## Glossary", re.MULTILINE)


def with_citations(text: str, tags: Sequence[str]) -> str:
    """The card with what its losses, by the tags ``loss:...``, lack in citations."""
    for tag in tags:
        loss = tag.removeprefix("loss:")
        if loss in MADE_OF and f"\n#### {loss}\n" not in text:
            found = _AFTER_CITATIONS.search(text)
            end = found.start() if found else len(text)
            text = f"{text[:end]}#### {loss}\n```bibtex\n{_bibtex(MADE_OF[loss])}\n```\n\n{text[end:]}"
    return text


def _bibtex(losses: Sequence[str]) -> str:
    from sentence_transformers.sentence_transformer import losses as library

    # A property that looks at nothing of its loss.
    return "\n\n".join(getattr(library, name).citation.fget(None).strip() for name in losses)
