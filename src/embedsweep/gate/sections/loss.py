"""The ``loss`` section: an option's own parameters, and the loss inside of a wrapper."""

from __future__ import annotations

from embedsweep.config import nearest
from embedsweep.gate.reader import Reader
from embedsweep.losses import LOSSES
from embedsweep.schema import LossConfig, ParameterValue


def read_loss(reader: Reader) -> LossConfig:
    """The loss by its name, with the parameters the table gives it."""
    name = reader.text("name")
    parameters: dict[str, ParameterValue] = {}
    if name in LOSSES:
        parameters = {key: reader.real(key, above=bound) for key, bound in LOSSES[name].parameters.items()}
        for key in reader.rest():
            takes = ", ".join(LOSSES[name].parameters) or "none"
            reader.problem(
                key, f"loss={name} has no such parameter{nearest(key, LOSSES[name].parameters)}; it has: {takes}"
            )
    elif name:
        reader.problem("name", f"no loss {name}{nearest(name, LOSSES)}; there are: {', '.join(LOSSES)}")
    return LossConfig(name, parameters, None)
