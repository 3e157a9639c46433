"""Names: which known one was meant by a name that nobody knows.

Owns how alike is alike enough. Knows nothing of what is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the known word most like ``word``, or the empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def nearest_key(key: str, known: Collection[str]) -> str:
    """`` (did you mean ...?)`` with the known dotted keys most like ``key``: beside it, else of that name elsewhere."""
    head, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == head]
    for names, cutoff in ((beside, 0.6), (known, 0.8)):
        leaves = [name.rpartition(".")[2] for name in names]
        match = difflib.get_close_matches(leaf, leaves, n=1, cutoff=cutoff)
        if match:
            meant = (name for name, known_leaf in zip(names, leaves, strict=True) if known_leaf == match[0])
            return f" (did you mean {' or '.join(meant)}?)"
    return ""
