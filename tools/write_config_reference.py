"""Write docs/CONFIG.md, the reference of every key: ``python -m tools.write_config_reference``."""

from __future__ import annotations

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
    """Return the whole page: every group with the keys of its default option, and the keys of every loss."""
    losses = [f"loss={name}" for name in option_names("loss")]
    names = [name for group in groups() for name in (group, *(losses if group == "loss" else ()))]
    return "\n".join((INTRODUCTION, *(as_markdown(reference_of(name)) for name in names)))


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
