"""Texts as a reader sees them: whether one shows anything, whether it is whole, and whether two are the same."""

from __future__ import annotations

import re
import unicodedata

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point: zero-width spaces and joiners, soft hyphens, variation selectors."""

_WITHOUT_FORM = re.compile(f"[{_IGNORABLE}]+")
_VISIBLE = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f\u2800{_IGNORABLE}]")
"""Neither white space nor a control character nor the Braille pattern without dots."""


def is_blank(text: str) -> bool:
    """Return whether a reader sees nothing of a text: it is empty, white space, or characters without a form."""
    return _VISIBLE.search(text) is None


def half_character(text: str) -> str | None:
    """Return the first lone surrogate of a text, which no encoding can write; None without any."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def normal(text: str) -> str:
    """Return the form that a text shares with those that a reader takes for the same.

    They differ in case, white space (also inside), characters without a form, or in the Unicode form of their letters
    (NFC, NFD, NFKC, NFKD).
    """
    if text.isascii():
        folded = text.casefold()
    else:
        # Folding may compose differently, so the form is taken again.
        folded = unicodedata.normalize("NFKC", _WITHOUT_FORM.sub("", unicodedata.normalize("NFKC", text).casefold()))
    return " ".join(folded.split())
