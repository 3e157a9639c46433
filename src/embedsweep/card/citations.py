"""Citations of losses for which the library has none: it has those of what they are made of.

Imports sentence-transformers' losses, and with them torch, where one is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
