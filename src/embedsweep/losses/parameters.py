"""What values a loss's parameters may have.

Owns the kinds of values; the gate reads them by these. Knows no loss and no library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Real:
    """A finite number within bounds; a bound that is infinite does not bind."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf


@dataclass(frozen=True)
class Whole:
    """A whole number from ``at_least`` up; or null, if ``optional``."""

    at_least: int
    optional: bool = False


@dataclass(frozen=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True)
class Word:
    """One of some words."""

    allowed: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A text that is not empty."""


@dataclass(frozen=True)
class Wholes:
    """A list of whole numbers from ``at_least`` up, with at least one in it."""

    at_least: int


@dataclass(frozen=True)
class Reals:
    """A list of numbers above ``above``; or null."""

    above: float


Parameter = Real | Whole | Boolean | Word | Text | Wholes | Reals
