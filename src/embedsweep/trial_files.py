"""What a trial leaves in its folder that others read: its configuration and its result.

Owns the form of ``config.yaml`` and ``result.json``. Knows nothing of how they come about.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import yaml

from embedsweep.schema import Emissions, TrialConfig, TrialResult
from embedsweep.secrets import redact_tree

RESULT = "result.json"


def write_config(path: Path, config: TrialConfig) -> None:
    """Writes a trial's configuration, secrets redacted."""
    # The JSON round trip turns tuples into lists, which YAML can write plainly.
    tree = redact_tree(json.loads(json.dumps(asdict(config))))
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")


def write_result(folder: Path, result: TrialResult) -> None:
    """Written last: a trial with a result is done and recorded."""
    temporary = folder / f"{RESULT}.part"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(result), file, indent=1)
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave the name without the content
    temporary.replace(folder / RESULT)


def read_result(folder: Path) -> TrialResult | None:
    """The result of a trial that was run to its end in ``folder``; None if it was not."""
    path = folder / RESULT
    if not path.is_file():
        return None
    tree = json.loads(path.read_text(encoding="utf-8"))
    cost = tree.pop("emissions")
    tree.setdefault("examples_per_s", None)  # older versions wrote none
    return TrialResult(**tree, emissions=Emissions(**{**cost, "unmeasured": tuple(cost["unmeasured"])}))
