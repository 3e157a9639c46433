"""The loss, as a frozen type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ParameterValue = str | bool | int | float | tuple[int, ...] | tuple[float, ...] | None


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        name: its option's name.
        parameters: its own parameters, under sentence-transformers' names.
        inner: the loss it is wrapped around; None where it wraps none.
    """

    name: str
    parameters: Mapping[str, ParameterValue]
    inner: LossConfig | None
