"""Layout: where the heads go in the leaves of the parameters."""

import operator
from collections.abc import Sequence
from typing import Any
from typing import Literal
from typing import NamedTuple

import jax

from headwise import _trees
from headwise.typing import PyTree

Flags = list[bool]
"""One for every leaf of the parameters."""

FEATURES: Literal["features"] = "features"


class Layout(NamedTuple):
    """What is shared, private and taken for a gramian: known before any number is."""

    reached: list[Flags]
    """For each head, the leaves that it moves."""
    over: Flags | Literal["features"]
    """The leaves that a gramian is taken over; or the features, which are none."""
    axis_name: str | tuple[str, ...] | None = None
    """Axes of a mesh over which leaves are split; None: each device has them whole."""

    @property
    def shared(self) -> Flags:
        """The leaves that two or more heads move."""
        return shared(self.reached)

    @property
    def private(self) -> Flags:
        """The leaves that at most one head moves."""
        return [not on for on in self.shared]

    def trees(self, names: Sequence[str], params: PyTree) -> dict[str, PyTree]:
        """{name of head: pytree of bool like the parameters}, the leaves it moves."""
        structure = jax.tree.structure(params)
        return {
            name: jax.tree.unflatten(structure, flags)
            for name, flags in zip(names, self.reached, strict=True)
        }


def is_features(wrt: Any) -> bool:
    """Whether `wrt` asks for the arrays between the shared and the private parts."""
    return isinstance(wrt, str) and wrt == FEATURES


def shared(reached: Sequence[Flags]) -> Flags:
    """The leaves that two or more heads move."""
    return [sum(of_heads) > 1 for of_heads in zip(*reached, strict=True)]


def make_layout(reached: list[Flags], wrt: Any, params: PyTree) -> Layout:
    """The layout of a model.

    Args:
        reached: for each head, the leaves that it moves.
        wrt: what a gramian is taken over, as `hw.balanced_grad` has it.
        params: the parameters.
    """
    if is_features(wrt):
        return Layout(reached, FEATURES)
    if wrt is not None:
        return Layout(reached, _trees.selected("wrt", wrt, params))
    both = shared(reached)
    if not any(both):
        return Layout(reached, [True] * len(both))
    # What a head that shares nothing moves: its length, and whether it is finite.
    apart = [row for row in reached if not any(map(operator.and_, row, both))]
    own = [any(row[i] for row in apart) for i in range(len(both))]
    return Layout(reached, [on or mine for on, mine in zip(both, own, strict=True)])
