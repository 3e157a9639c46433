"""The ``loss`` section: an option's own parameters, and the loss inside of a wrapper."""

from __future__ import annotations

import math

from embedsweep.config.reader import Reader
from embedsweep.config.trial import LossConfig, ParameterValue
from embedsweep.config.values import nearest, shown
from embedsweep.losses.rows import Boolean, Choice, Parameter, Real, Reals, Text, Whole, Wholes
from embedsweep.losses.table import LOSSES


def read_loss(reader: Reader) -> LossConfig:
    """The loss by its name, with the parameters the table gives it, and the loss inside."""
    name = reader.text("name")
    if name not in LOSSES:
        if name:
            reader.problem("name", f"no loss {name}{nearest(name, LOSSES)}; there are: {', '.join(LOSSES)}")
        return LossConfig(name, {}, None)
    row = LOSSES[name]
    parameters = {key: _value(reader, key, parameter) for key, parameter in row.parameters.items()}
    inner = read_loss(reader.section("inner")) if row.wraps else None
    known = [*row.parameters, *(["inner"] if row.wraps else [])]
    for key in reader.rest():
        reader.problem(
            key, f"loss={name} has no such parameter{nearest(key, known)}; it has: {', '.join(known) or 'none'}"
        )
    return LossConfig(name, parameters, inner)


def _value(reader: Reader, key: str, parameter: Parameter) -> ParameterValue:
    value: ParameterValue
    match parameter:
        case Real(at_least, above, at_most):
            value = reader.real(key, at_least=at_least, above=above, at_most=at_most)
        case Whole(at_least, optional):
            value = reader.optional_integer(key, at_least, required=not optional)
        case Boolean():
            value = reader.boolean(key)
        case Choice(allowed):
            value = reader.one_of(key, allowed)
        case Text():
            value = reader.text(key)
        case Wholes(at_least):
            value = _wholes(reader, key, at_least)
        case Reals(above):
            value = _reals(reader, key, above)
    return value


def _wholes(reader: Reader, key: str, at_least: int) -> tuple[int, ...]:
    before = len(reader.problems)
    values = reader.integers(key, at_least)
    if not values and len(reader.problems) == before:
        reader.problem(key, "must have at least one number in it, as [128,64]")
    return values


def _reals(reader: Reader, key: str, above: float) -> tuple[float, ...] | None:
    value = reader.raw(key)
    if value is None:
        return None
    if isinstance(value, list | tuple) and value and all(_is_real(item) and item > above for item in value):
        return tuple(float(item) for item in value)
    reader.problem(key, f"must be a list of numbers above {above:g}, as [1,0.5], or null, but got {shown(value)}")
    return None


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
