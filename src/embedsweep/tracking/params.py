"""A configuration as MLflow's params.

Owns the params' names and how values are written, so that a resumed trial can be compared with its run. Must not know
MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from embedsweep.schema import TrialConfig

_MAX_LENGTH = 6000  # MLflow cuts longer values


def flatten(config: TrialConfig) -> dict[str, str]:
    """The configuration as MLflow's params: ``optimizer.lr`` -> ``2e-05``.

    The loss's own parameters stand directly under ``loss.``. None is ``null``, a boolean ``true`` or ``false``, a
    float its shortest exact form, a tuple a JSON list.
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
    if is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            # A mapping is its owner's own keys: LossConfig.parameters["scale"] is loss.scale.
            yield from _flat(key if isinstance(inner, Mapping) else f"{key}.{field.name}".lstrip("."), inner)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}".lstrip("."), inner)
    else:
        yield key, _text(value)


def _text(value: object) -> str:
    if value is None or isinstance(value, bool | tuple):
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(value)
