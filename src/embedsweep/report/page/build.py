"""Put the report together: sections, the template, the style, the script, and plotly.js once."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsweep.report.page.account import audit, cost, failures, reproduce
from embedsweep.report.page.certainty import finals, luck
from embedsweep.report.page.content import Section
from embedsweep.report.page.first import first_screen
from embedsweep.report.page.importance import importance
from embedsweep.report.page.items import items
from embedsweep.report.page.space import parallel, slices
from embedsweep.report.page.trials import curves, emissions, history, options, ranking
from embedsweep.report.results import StudyResults
from embedsweep.secrets import redact, redact_tree

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = Path("report", "index.html")
"""The report's place in a study's folder."""


def write_report(results: StudyResults, program: str) -> Path:
    """Write the report of a study into its folder, and return its path.

    Nothing is computed that takes long: differences that no command has kept are left out. About 5 MB, of which
    plotly.js is 4.8.

    Args:
        results: the study's results, also of a running study.
        program: how this program is started, for the commands in it.

    Raises:
        OSError: the file cannot be written.
    """
    path = results.study.folder / REPORT
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two commands on a study may end at the same time
    try:
        part.write_text(html_of(results, program), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def html_of(results: StudyResults, program: str) -> str:
    """Return the report as HTML; see `write_report`."""
    from plotly.offline import get_plotlyjs

    results = replace(results, computes=False)
    sections = sections_of(results, program)
    numbers = itertools.count()
    numbered = [(section, [(next(numbers), chart) for chart in section.charts]) for section in sections]
    scripts = [get_plotlyjs(), _text("page.js")]
    return (
        _environment()
        .get_template("page.html")
        .render(
            study=results.study.name,
            first=first_screen(results, program),
            sections=numbered,
            figures=[_finite(redact_tree(chart.figure)) for section in sections for chart in section.charts],
            written=f"{datetime.now():%Y-%m-%d %H:%M}",
            style=_text("page.css"),
            scripts=scripts,
            policy=_policy(scripts),
        )
    )


def sections_of(results: StudyResults, program: str) -> list[Section]:
    """Return the sections after the first screen, in their order."""
    return [
        finals(results),
        ranking(results),
        options(results),
        history(results),
        curves(results),
        importance(results),
        parallel(results),
        slices(results),
        emissions(results),
        items(results),
        luck(results),
        failures(results),
        audit(results),
        cost(results),
        reproduce(results, program),
    ]


def _finite(value: Any) -> Any:
    """Return a figure without the numbers that JSON has not, which leave gaps; a trial's score may have been NaN."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _policy(scripts: Sequence[str]) -> str:
    """Return the content security policy: no network, and no script but these.

    plotly.js sets styles of elements.
    """
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{what} {sources}" for what, sources in allowed.items())


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    """Return the templates' environment: what is put in is escaped, and has no secrets in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def without_secrets(value: object) -> object:
        return redact(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=without_secrets,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "ensure_ascii": False}
    return environment
