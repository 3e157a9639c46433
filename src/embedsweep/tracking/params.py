"""A configuration as MLflow's params.

Owns the params' names and how values are written, so that a resumed trial can be compared with its run. Must not know
MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from embedsweep.schema import BenchmarkConfig, LossConfig, TrialConfig

_MAX_LENGTH = 6000  # MLflow cuts longer values


def flatten(config: TrialConfig) -> dict[str, str]:
    """The configuration as MLflow's params: ``optimizer.lr`` -> ``2e-05``.

    The loss's own parameters stand directly under ``loss.``. None is ``null``, a boolean ``true`` or ``false``, a
    float its shortest exact form, a tuple a JSON list. A benchmark is its name; what it is stands in ``config.yaml``.
    """
    return dict(_flat("", config))


def differences(logged: Mapping[str, str], params: Mapping[str, str]) -> list[str]:
    """In words, which of the params a run has with another value; params it lacks do not differ."""
    return [
        f"{key} is {logged[key]} there and {value} now"
        for key, value in params.items()
        if key in logged and logged[key][:_MAX_LENGTH] != value[:_MAX_LENGTH]
    ]


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BenchmarkConfig):
        yield key, value.name
    elif isinstance(value, LossConfig):
        yield f"{key}.name", value.name
        yield from _flat(key, value.parameters)
        if value.inner is not None:
            yield from _flat(f"{key}.inner", value.inner)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _flat(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, _text(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        names = [item.name if isinstance(item, BenchmarkConfig) else item for item in value]
        return json.dumps(names, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
