"""Constraints between keys: ``dataloader.micro_batch_size <= dataloader.batch_size``.

A constraint is one comparison of keys and numbers, with ``+``, ``-`` and ``*`` on either side. Its text is parsed,
never executed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from embedsweep.config.values import shown

GRAMMAR = "a constraint compares keys and numbers, as in 'dataloader.micro_batch_size <= dataloader.batch_size'"

COMPARISONS: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


@dataclass(frozen=True)
class Constraint:
    """A comparison that every trial must keep.

    Attributes:
        text: as it was written.
        keys: those it names, in order.
    """

    text: str
    keys: tuple[str, ...]
    _tree: ast.Compare

    def holds(self, value_of: Callable[[str], object]) -> bool:
        """Return whether the comparison holds; it does if a key has no value.

        Args:
            value_of: the value of a key; None where it has none.

        Raises:
            ValueError: a value is not a number.
        """
        values: dict[str, float] = {}
        for key in self.keys:
            value = value_of(key)
            if value is None:
                return True
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key} is {shown(value)}, but only numbers can be compared")  # noqa: TRY004  # a wrong value
            values[key] = value
        sides = [_number(side, values) for side in (self._tree.left, *self._tree.comparators)]
        return all(
            COMPARISONS[type(comparison)](left, right)
            for comparison, left, right in zip(self._tree.ops, sides, sides[1:], strict=False)
        )


@lru_cache
def parse_constraint(text: str) -> Constraint:
    """Parse a constraint.

    Raises:
        ValueError: it is not a constraint; the message says what one is.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(GRAMMAR) from None
    if not isinstance(tree, ast.Compare) or any(type(comparison) not in COMPARISONS for comparison in tree.ops):
        raise ValueError(f"{GRAMMAR}, by <, <=, >, >=, == or !=")
    keys: dict[str, None] = {}
    for side in (tree.left, *tree.comparators):
        _collect(side, keys)
    if not keys:
        raise ValueError(f"names no key: {GRAMMAR}")
    return Constraint(text, tuple(keys), tree)


def _collect(node: ast.expr, keys: dict[str, None]) -> None:
    """Add the keys of one side; raise ValueError for anything outside the grammar."""
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        _collect(node.left, keys)
        _collect(node.right, keys)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _collect(node.operand, keys)
    elif isinstance(node, ast.Name | ast.Attribute):
        keys[_key(node)] = None
    elif not isinstance(node, ast.Constant) or isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise ValueError(f"'{ast.unparse(node)}' is not allowed: {GRAMMAR}, with +, - and *")


def _key(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_key(node.value)}.{node.attr}"
    raise ValueError(f"'{ast.unparse(node)}' is not allowed: {GRAMMAR}")


def _number(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.BinOp():
            return ARITHMETIC[type(node.op)](_number(node.left, values), _number(node.right, values))
        case ast.UnaryOp():
            return -_number(node.operand, values)
        case ast.Constant(value=int() | float() as number):
            return number
        case _:
            return values[_key(node)]
