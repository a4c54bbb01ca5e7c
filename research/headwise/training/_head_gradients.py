"""What the gradient to apply is made of: gradients that are kept, or one more pass."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _products
from headwise import _rows
from headwise import _trees
from headwise import balancers
from headwise import gradients
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree

Rows = Sequence[list[Array]]
"""[H][leaf], the gradient of every head for every leaf of the parameters."""


class Own(NamedTuple):
    """Leaves that get their own head's gradient, whatever its weight."""

    weights: Array
    """[H] float32: 1, and 0 for absent heads."""
    leaves: _layout.Flags


class Kept(NamedTuple):
    """The gradients of all heads."""

    rows: Rows
    reached: list[_layout.Flags]
    """For each head, the leaves that it moves: its gradient is 0 elsewhere."""

    def gramian(
        self, over: Sequence[bool], axis_name: str | tuple[str, ...] | None = None
    ) -> Array:
        """[H, H] over the flagged leaves, those that are split over an axis too."""
        reached = zip(*self.reached, strict=True)
        leaves = [
            leaf.of(_members(moves)) if sum(moves) == 1 else leaf  # else 0 elsewhere
            for leaf, moves in zip(_rows.by_leaf(self.rows), reached, strict=True)
        ]
        return _rows.gramian(len(self.rows), _trees.chosen(leaves, over), axis_name)

    def trees(self, names: Sequence[str], params: PyTree) -> dict[str, PyTree]:
        """{name: gradient like the parameters}."""
        structure = jax.tree.structure(params)
        return {
            name: jax.tree.unflatten(structure, row)
            for name, row in zip(names, self.rows, strict=True)
        }

    def total(self, decision: balancers.Decision, own: Own | None) -> list[Array]:
        """The gradient to apply, leaf by leaf."""
        if decision.direction is not None:
            total = jax.tree.leaves(decision.direction)
        else:
            total = self._weighted(decision.weights)
        if own is None:
            return total
        apart = self._weighted(own.weights)
        return [
            mine if on else both
            for on, both, mine in zip(own.leaves, total, apart, strict=True)
        ]

    def _weighted(self, weights: Array) -> list[Array]:
        """Σ w g for every leaf, from the heads that move it."""
        reached = zip(*self.reached, strict=True)
        leaves = [
            leaf.of(_members(moves))
            for leaf, moves in zip(_rows.by_leaf(self.rows), reached, strict=True)
        ]
        return _rows.weighted_sums(weights, leaves, _rows.like(self.rows))


class OneMorePass(NamedTuple):
    """No gradient of a head is kept: the weighted sum takes a pass of its own."""

    backward: gradients.Backward

    def trees(self, names: Sequence[str], params: PyTree) -> None:
        """There are none."""

    def total(self, decision: balancers.Decision, own: Own | None) -> list[Array]:
        """The gradient to apply, leaf by leaf."""
        if own is None:
            return self.backward.weighted(decision.weights)
        return self.backward.weighted(decision.weights, own.weights, own.leaves)


class Later:
    """The weighted pass comes when all is decided: its total is what is asked of it."""

    def trees(self, names: Sequence[str], params: PyTree) -> None:
        """There are none."""

    def total(
        self, decision: balancers.Decision, own: Own | None
    ) -> tuple[balancers.Decision, Own | None]:
        """The arguments."""
        return decision, own


HeadGradients = Kept | OneMorePass | Later


def _members(flags: Sequence[bool]) -> list[int]:
    """The heads that move a leaf."""
    return [h for h, on in enumerate(flags) if on]


def gramian(rows: Sequence[Sequence[Array]]) -> Array:
    """[H, H] inner products of rows of arrays."""
    return _rows.gramian(len(rows), _rows.by_leaf(rows))


def crossed(
    rows: Rows,
    others: Rows,
    over: Sequence[bool],
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """[H, H] inner products of the gradients of two batches over the flagged leaves."""
    if isinstance(rows, _rows.Rows) and isinstance(others, _rows.Rows):
        mine, theirs = (_trees.chosen(r.leaves, over) for r in (rows, others))
        return _rows.cross(len(rows), mine, theirs, axis_name)
    pairs = zip(
        zip(*(_trees.chosen(row, over) for row in rows), strict=True),
        zip(*(_trees.chosen(row, over) for row in others), strict=True),
        strict=True,
    )
    parts = [_products.cross(a, b) for a, b in pairs]
    return jnp.asarray(_numerics.total_over_devices(parts, axis_name))
