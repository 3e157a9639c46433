"""Imports go to the same or a lower layer, and each library is imported only by its owners."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedsweep

PACKAGE = Path(embedsweep.__file__).parent

LAYERS: dict[str, int] = {
    "errors": 0,
    "files": 0,
    "secrets": 0,
    "signals": 0,
    "hub": 0,
    "lease": 0,
    "environment": 0,
    "config": 1,
    "console": 2,
    "data": 2,
    "tracking": 2,
    "emissions": 2,
    "machine": 2,
    "processes": 2,
    "models": 3,
    "losses": 3,
    "evaluation": 4,
    "card": 5,
    "training": 6,
    "validation": 7,
    "study": 8,
    "workers": 9,
    "report": 9,
    "commands": 10,
    "cli": 11,
    "embedsweep": 12,
    "__main__": 12,
}
"""Module or package -> layer; a module imports only from its own layer or a lower one. ``embedsweep`` is the public
API, in the package's own ``__init__.py``, which imports each name when it is first used."""

OWNERS: dict[str, set[str]] = {
    "optuna": {"config", "study", "report", "workers", "commands"},
    "mlflow": {"tracking"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config"},
    "codecarbon": {"emissions"},
    "peft": {"models"},
    "boto3": {"training"},
    "botocore": {"training"},
    "mteb": {"commands"},
    "rich": {"commands", "console", "report", "cli"},
    "pandas": {"report"},
    "plotly": {"report"},
    "jinja2": {"report"},
}
"""Library -> the only modules that may import it."""

FILES = sorted(PACKAGE.rglob("*.py"))


def _unit(module: str) -> str:
    """Return the row of the table to which a dotted module belongs."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str) -> Iterator[str]:
    """Yield every module that a source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            # `from embedsweep import data` imports a module, too.
            yield from (
                (f"{node.module}.{alias.name}" for alias in node.names)
                if node.module == "embedsweep"
                else (node.module,)
            )


def _own_imports(path: Path) -> list[str]:
    return [name for name in _imports(path.read_text(encoding="utf-8")) if name.split(".")[0] == "embedsweep"]


def _is_allowed(importer: str, imported: str) -> bool:
    return LAYERS[_unit(imported)] <= LAYERS[_unit(importer)]


def test_the_table_lists_exactly_the_modules_that_exist() -> None:
    assert {_unit(_module(path)) for path in FILES} == set(LAYERS)
    assert len(FILES) >= 50


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_go_to_the_same_or_a_lower_layer(path: Path) -> None:
    upward = [name for name in _own_imports(path) if not _is_allowed(_module(path), name)]
    assert upward == []


def test_imports_have_no_cycle() -> None:
    graph = {unit: set[str]() for unit in LAYERS}
    for path in FILES:
        graph[_unit(_module(path))] |= {_unit(name) for name in _own_imports(path)}
    done: set[str] = set()
    left = {unit: names - {unit} for unit, names in graph.items() if unit not in done}
    while ready := [unit for unit, names in left.items() if names <= done]:
        done |= set(ready)
        left = {unit: names for unit, names in left.items() if unit not in done}
    assert left == {}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_only_by_its_owners(library: str) -> None:
    users = {
        _unit(_module(path))
        for path in FILES
        if any(name.split(".")[0] == library for name in _imports(path.read_text(encoding="utf-8")))
    }
    assert users <= OWNERS[library]
    assert users, f"nothing imports {library}: remove it from the table"


def test_every_kind_of_import_is_found() -> None:
    source = "import a.b, c\nfrom d.e import f\nfrom embedsweep import data\ndef g():\n    if x:\n        import h\n"
    assert list(_imports(source)) == ["a.b", "c", "d.e", "embedsweep.data", "h"]
    assert not _is_allowed("embedsweep.config", "embedsweep.validation")
    assert _is_allowed("embedsweep.validation.rules", "embedsweep.data.examples")
