"""Write docs/CONFIG.md, the reference of every key: ``python -m tools.write_config_reference``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from embedsweep.config.values import shown
from embedsweep.validation.reference import Reference, groups, option_names, reference_of

PAGE = Path(__file__).parents[1] / "docs" / "CONFIG.md"
INTRODUCTION = """\
# Every group, option and key

`embedsweep train GROUP=OPTION KEY=VALUE ...` chooses an option of a group and sets keys; `embedsweep train --help NAME`
prints what stands here of a group (`model`), an option (`model=minilm`) or a key (`trainer.epochs`). `${model.lr}` is
the value of another key, and `???` must be given. This page is written by `python -m tools.write_config_reference`
from the YAML files in `conf/` and the types in `src/embedsweep/config/`.
"""


def page() -> str:
    """Return the page: every group with the keys of its default option; of losses, evaluations, workers, of each."""
    sections = [as_markdown(reference) for group in groups() for reference in _of_group(group)]
    return "\n".join((INTRODUCTION, *sections))


def _of_group(group: str) -> Iterator[Reference]:
    yield (shared := reference_of(group))
    for option in option_names(group) if group in ("loss", "evaluation", "workers") else ():
        reference = reference_of(f"{group}={option}")
        known = {entry.key for entry in shared.keys}
        own = tuple(entry for entry in reference.keys if group == "workers" or entry.key not in known)
        if option != shared.default or group == "loss":
            yield replace(reference, keys=own)


def as_markdown(reference: Reference) -> str:
    """Return a reference as a section of the documentation."""
    lines = [f"## `{reference.name}`", "", f"{reference.about}"]
    if reference.options:
        lines += ["", "| option | |", "|:--|:--|"]
        lines += [
            f"| `{name}`{' (default)' if name == reference.default else ''} | {_cell(about)} |"
            for name, about in reference.options.items()
        ]
    if reference.keys:
        lines += ["", "| key | default | values | |", "|:--|:--|:--|:--|"]
        lines += [
            f"| `{entry.key}` | `{_cell(shown(entry.value))}` | {_cell(entry.type)} | {_cell(entry.comment)} |"
            for entry in reference.keys
        ]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\t", "\\t")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
