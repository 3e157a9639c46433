"""Commands and example files on the pages of the documentation.

A command is a line of a code block, or code within a text, that begins with the name of a program of ``PROGRAMS``. It
needs the network, a GPU, or PostgreSQL and MLflow's server, if a comment above it in its block says ``(network)``,
``(GPU)`` or ``(servers)``. A file is a fenced
block below a line that holds nothing but its name in code, or several names; or lines of an indented block from
``# conf/....yaml`` on, up to a command. What follows a command after ``$`` in its block is what it prints.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = r"(?:python|embedsweep|make|pip|eval|source|pytest|mlflow|optuna-dashboard)"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*{PROGRAMS} .*|\.ci/run\b.*")
INLINE = re.compile(r"`((?:python train\.py|embedsweep [a-z]+|make [a-z]+)(?: [^`\n]*)?)`")
TEMPLATE = r"\.\.\.|\bkey=value"
"""What a command within a text has that is only an outline of one."""
NEEDS = re.compile(r"\((network|GPU|servers)\)")
_CAPTION = re.compile(r"`[\w./-]+`(?:, `[\w./-]+`)*")
_CONF = re.compile(r"# (conf/[\w/.-]+\.yaml)\b")


@dataclass(frozen=True)
class Command:
    """A command as a page has it.

    Attributes:
        place: page and line.
        text: the command, its lines joined.
        needs: what it is marked to need: ``network``, ``GPU``, ``servers`` or nothing.
        output: what the page says that it prints; empty where it says nothing.
    """

    place: str
    text: str
    needs: str
    output: str = ""

    @property
    def words(self) -> list[str]:
        """Its words as a POSIX shell splits them, without variables before it; one word if a quote is left open."""
        try:
            words = shlex.split(self.text)
        except ValueError:
            return [self.text]
        return words[next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :]


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        first: the number of its first line on the page.
        lines: its lines, without indentation.
        language: the word after a fence; None of an indented block.
        before: the last line of text above it.
    """

    first: int
    lines: list[str]
    language: str | None
    before: str


def blocks(text: str) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    block: Block | None = None
    before = ""
    for number, line in enumerate([*text.split("\n"), "end"], start=1):
        is_fenced = block is not None and block.language is not None
        if block is not None and (line == "```" if is_fenced else not (line.startswith("    ") or not line)):
            yield block
            if is_fenced:
                block, before = None, ""
                continue
            block = None
        if block is not None:
            block.lines.append(line if is_fenced else line[4:])
        elif line.startswith("```"):
            block = Block(number + 1, [], line.removeprefix("```"), before)
        elif line.startswith("    "):
            block = Block(number, [line[4:]], None, before)
        elif line:
            before = line


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page, those of its code blocks first."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(text):
        needs, start, parts = "", block.first, list[str]()
        for number, line in enumerate(block.lines, start=block.first):
            if not parts and (not line or line.startswith("#")):
                needs = match[1] if (match := NEEDS.search(line)) else ""
                continue
            start = start if parts else number
            parts.append(line.removeprefix("$ ").strip().removesuffix("\\").strip())
            if not line.endswith("\\"):
                command, parts = " ".join(parts), []
                if COMMAND.fullmatch(command):
                    output = "\n".join(block.lines[number - block.first + 1 :]) if line.startswith("$ ") else ""
                    yield Command(f"{page.name}:{start}", command, needs, output)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.startswith("    "):
            found = (command for command in INLINE.findall(line) if not re.search(TEMPLATE, command))
            yield from (Command(f"{page.name}:{number}", command, "") for command in found)


def files(page: Path) -> Iterator[tuple[str, str]]:
    """Yield name and content of each example file of a page."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language is not None and _CAPTION.fullmatch(block.before):
            content = "\n".join(block.lines) + "\n"
            yield from ((name, content) for name in re.findall(r"`([^`]+)`", block.before))
        elif block.language is None:
            name, lines = "", list[str]()
            for line in [*block.lines, "make end"]:
                match = _CONF.match(line)
                if name and (match or COMMAND.fullmatch(line)):
                    yield name, "\n".join(lines).rstrip() + "\n"
                    name = ""
                if match:
                    name, lines = match[1], []
                lines.append(line)
