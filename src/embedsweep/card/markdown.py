"""Markdown as the card needs it: tables, cells that say what a text is, folded parts, JSON.

Must not know what is told.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

LONGEST_CELL = 300
_MARKUP = re.compile(r"[\\`*_\[\]{}|~$#!]")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """A table whose first ``texts`` columns are aligned to the left and the others, numbers, to the right."""
    line = "".join("|:---" if index < texts else "|---:" for index in range(len(head)))
    return "\n".join([f"| {' | '.join(head)} |", f"{line}|", *(f"| {' | '.join(row)} |" for row in rows)])


def verbatim(text: str) -> str:
    """Any text as code that stands in one cell of a table: no markup in it works, and a long one is cut."""
    short = text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}..."
    lines = html.escape(short, quote=False).splitlines()
    # What html.escape made has none of these but what it was made of; & alone begins an entity.
    return f"<code>{'<br>'.join(_MARKUP.sub(lambda found: f'&#{ord(found[0])};', line) for line in lines)}</code>"


def code(text: str) -> str:
    """A short text as code, plain where that needs no escaping."""
    return verbatim(text) if re.search(r"[`|\s]", text.replace(" ", "")) or not text else f"`{text}`"


def folded(summary: str, body: str) -> str:
    """A part that is shown on demand."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def json_block(value: object) -> str:
    """A value as an indented JSON block that belongs to a list's item."""
    lines = ["```json", *json.dumps(value, indent=4, ensure_ascii=False).splitlines(), "```"]
    return "\n".join(f"  {line}" for line in lines)


def joined(words: Sequence[str]) -> str:
    """Words as a sentence lists them: ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
