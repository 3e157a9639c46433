"""Every file, test and heading that the documentation names exists."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from embedsweep.data.convert import CONVERSIONS
from embedsweep.losses.table import LOSSES
from tests.doc_commands import files

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "sweeps" / "README.md", ROOT / "mlruns" / "README.md"]
)
FOLDERS = ("", "tests", "src/embedsweep")
"""Where a path may begin."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
TREE = re.compile(r"(?<!/)\b(?:src/embedsweep|tests|conf|docs|benchmarks|tools)/[\w./-]*\w")
CONSTANT = re.compile(r"`([A-Z]\w{4,})`\s+\(`([\w/]+\.py)`")
PYTHON = re.compile(r"((?:[\w.-]+/)*\w+\.py)?(?:::(\w+))?")


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def local_links(text: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of each link that leads nowhere else."""
    for target in LINK.findall(text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def python_names(text: str) -> Iterator[tuple[str, str]]:
    """Each ``path.py``, ``path.py::test`` and ``::test`` in code; the last means the file named before it."""
    path = ""
    for code in CODE.findall(text):
        match = PYTHON.fullmatch(code)
        if match and (match[1] or match[2]):
            path = match[1] or path
            yield path, match[2] or ""


@cache
def python_files() -> list[str]:
    """Every Python file of the repository, relative to it."""
    folders = ("src", "tests", "docs", "benchmarks", "tools")
    return [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")] + ["train.py"]


def resolve(path: str) -> list[Path]:
    """The files that a documented path may mean: a path below one of FOLDERS, or a bare name of one file anywhere."""
    below = [ROOT / folder / path for folder in FOLDERS if (ROOT / folder / path).is_file()]
    return below or [ROOT / name for name in python_files() if name.endswith(f"/{path}") and "/" not in path]


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_pages_are_found() -> None:
    assert len(PAGES) >= 9
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum(len(list(local_links(text))) for text in texts) >= 8
    assert sum(len(list(python_names(text))) for text in texts) >= 40
    assert sum(len(TREE.findall(text)) for text in texts) >= 15


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_local_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for path, anchor in local_links(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(path)
        elif anchor:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.M)
            broken += [] if anchor in map(slug, headings) else [f"{path}#{anchor}"]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_paths_from_the_root_exist(page: Path) -> None:
    paths = TREE.findall(page.read_text(encoding="utf-8"))
    # In capitals, a placeholder of the reader's own; options of a user's conf/ are examples.
    assert [
        path for path in paths if "PLACE" not in path and not path.startswith("conf/") and not (ROOT / path).exists()
    ] == []


def test_constants_named_with_their_file_are_in_it() -> None:
    named = CONSTANT.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) >= 5
    wrong = [(name, path) for name, path in named if not re.search(rf"\b{name}\b", resolve(path)[0].read_text("utf-8"))]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_files_and_tests_named_in_code_exist(page: Path) -> None:
    wrong = []
    own = {name for name, _ in files(page)}
    for path, test in python_names(page.read_text(encoding="utf-8")):
        found = resolve(path)
        if path in own:
            continue
        if len(found) != 1:
            wrong.append(f"{path}: {len(found)} files")
        elif test and test not in functions(found[0]):
            wrong.append(f"{path}::{test}")
    assert wrong == []


def test_the_tests_of_faults_are_named_by_their_path_below_tests() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8").splitlines()]
    places = [path for row in rows if len(row) > 4 for path, _ in python_names(row[4])]
    assert len(places) >= 30
    assert [path for path in places if not (ROOT / "tests" / path).is_file()] == []


def test_every_kind_of_name_is_found() -> None:
    text = "`faults/test_kill.py::test_a` and `::test_b`, `train.py`, [x](docs/A.md#b-c), [y](https://a.b/c), `a=b`"
    assert list(python_names(text)) == [
        ("faults/test_kill.py", "test_a"),
        ("faults/test_kill.py", "test_b"),
        ("train.py", ""),
    ]
    assert list(local_links(text)) == [("docs/A.md", "b-c")]
    assert slug("On a GPU: `auto`, or not") == "on-a-gpu-auto-or-not"
    assert resolve("no_such_file.py") == []
    assert TREE.findall("in src/embedsweep/losses/table.py, and tests/faults.") == [
        "src/embedsweep/losses/table.py",
        "tests/faults",
    ]


def build_site(folder: Path, *, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of the documentation in a folder, as ``make docs`` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = build_site(ROOT, site=tmp_path)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = sorted(path.stem for path in tmp_path.glob("*.html"))
    assert pages == sorted([*(path.stem for path in (ROOT / "docs").glob("*.md")), "404"])
    loaded = re.findall(
        r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?:[^\s\">]*)", (tmp_path / "index.html").read_text()
    )
    assert loaded == []


def test_each_wrong_link_fails_the_site(tmp_path: Path) -> None:
    targets = ["DATA.md#no-such-heading", "NOWHERE.md", "/absolute.md", "#nowhere", "nowhere/"]
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs" / "index.md"
    page.write_text(page.read_text("utf-8") + "".join(f"\n[x]({target})\n" for target in targets), encoding="utf-8")
    built = build_site(tmp_path, site=tmp_path / "site")
    warnings = [line for line in built.stderr.splitlines() if "WARNING" in line]
    assert built.returncode == 1
    assert [any(f"'{target}'" in line for line in warnings) for target in targets] == [True] * len(targets)
    assert len(warnings) == len(targets)


def test_every_loss_and_conversion_is_on_its_page() -> None:
    text = (ROOT / "docs" / "LOSSES.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    by_shape = {match[1]: "".join(row[1:]) for row in rows if (match := re.match(r" `(\w+)`", row[0]))}
    named = {shape: set(CODE.findall(cells)) for shape, cells in by_shape.items()}
    assert set(CODE.findall(text)) >= set(LOSSES)
    takes = {shape: {name for name, loss in LOSSES.items() if shape in loss.shapes} for shape in named}
    teachers = {name for name, loss in LOSSES.items() if loss.other_model == "teacher"}
    converted = {"class_pairs": {"mnrl"}}
    assert {shape: names - converted.get(shape, set()) for shape, names in named.items()} == {
        shape: names - teachers for shape, names in takes.items()
    }
    words = {(row[0].strip(), row[1].strip()) for row in rows}
    shown = {(source.removesuffix(" of inference").replace(" ", "_"), to.replace(" ", "_")) for source, to in words}
    assert {(source, to) for source, to in CONVERSIONS if to != "texts"} <= shown
