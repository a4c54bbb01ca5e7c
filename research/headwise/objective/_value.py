"""The raw value of one head: what counts of its loss, weighed and averaged."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _means
from headwise import _reduction
from headwise.objective import _gate
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


class Mean(NamedTuple):
    """The value of a head, and of what it is the mean."""

    value: Array
    number: Array | None
    """Of entries that count, float; None: all do, as is known without data."""
    present: Array | None
    """bool, whether there is any data; None likewise."""
    coupling: str | None
    """Why it is no mean over examples, if it is none."""


def value(
    name: str,
    loss: Loss,
    outputs: PyTree,
    targets: PyTree,
    sample_weights: Array | None,
    where: Array | None,
) -> Mean:
    """Σ sample weight * loss / number of entries that count, behind a gate.

    The gate lets a total with weight 0 leave no trace in the gradient, NaN or not.

    Args:
        name: of the head, for error texts.
        loss: `(preds, targets) -> values`, as in `hw.Objective`.
        outputs, targets, sample_weights, where: of this head, as in
            `hw.Objective.values`.
    """
    unreduced: list[jax.ShapeDtypeStruct] = []

    def of_arrays(
        outputs: PyTree, targets: PyTree, weights: Array | None, mask: Array | None
    ) -> Array:
        if weights is not None:
            outputs = _hide_examples(outputs, weights)
        entries, valid = _reduction.entries(name, loss, outputs, targets, mask)
        unreduced.append(jax.ShapeDtypeStruct(entries.shape, entries.dtype))
        if weights is not None:
            entries = _weigh_examples(name, entries, weights, outputs)
        return _reduction.mean(entries, valid, None)

    arrays = jax.tree.map(jnp.asarray, (outputs, targets, sample_weights, where))
    outputs, targets, sample_weights, where = arrays
    gated = _gate.gate(of_arrays, *arrays)
    # Counted out here: the gate lets one value pass. The loss is not run for it.
    entries = unreduced[-1]
    number, present = _counted(
        name, loss, outputs, targets, sample_weights, where, entries
    )
    coupling = _reduction.coupling(loss, outputs, entries.shape)
    return Mean(gated, number, present, coupling)


def values(means: Mapping[str, Mean]) -> dict[str, Array]:
    """A plain dict, or `Means` if there is something to tell of a head."""
    plain = {name: mean.value for name, mean in means.items()}
    counted = {n: m for n, m in means.items() if m.number is not None}
    coupled = {n: m.coupling for n, m in means.items() if m.coupling is not None}
    if not counted and not coupled:
        return plain
    return _means.Means(
        plain,
        {name: mean.number for name, mean in counted.items()},
        {name: mean.present for name, mean in counted.items()},
        coupled,
    )


def _counted(
    name: str,
    loss: Loss,
    outputs: PyTree,
    targets: PyTree,
    sample_weights: Array | None,
    where: Array | None,
    entries: jax.ShapeDtypeStruct,
) -> tuple[Array | None, Array | None]:
    """How many entries count, and whether any of them has a weight."""
    mask = _reduction.mask(name, loss, outputs, targets, where)
    if mask is None and sample_weights is None and entries.size:
        return None, None
    valid = jnp.ones(entries.shape, bool)
    count = jnp.asarray(entries.size, entries.dtype)
    if mask is not None:
        valid = _reduction.which_count(name, loss, outputs, targets, mask, valid.shape)
        count = jnp.sum(valid, dtype=entries.dtype)
    if sample_weights is None:
        return count, count != 0
    weights = _reduction.align("sample_weights", sample_weights, entries.shape)
    return count, jnp.any((weights != 0) & valid)


def _hide_examples(outputs: PyTree, sample_weights: Array) -> PyTree:
    """Zeros for the outputs of examples with weight 0: their NaN goes nowhere."""

    def keep(x: Array) -> Array:
        there = _reduction.align("sample_weights", sample_weights != 0, x.shape)
        return jnp.where(there, x, jnp.zeros_like(x))

    return jax.tree.map(keep, outputs)


def _weigh_examples(
    name: str, entries: Array, sample_weights: Array, outputs: PyTree
) -> Array:
    examples = jax.tree.leaves(outputs)[0].shape[0]
    if entries.ndim < 1 or entries.shape[0] != examples:
        raise ValueError(
            f"sample_weights of head {name!r}: the loss must return values with the "
            f"batch ({examples}) as leading axis, got shape {entries.shape}"
        )
    weights = _reduction.align(
        f"sample_weights of head {name!r}", sample_weights, entries.shape
    )
    kept = jnp.where(weights != 0, entries, jnp.zeros_like(entries))
    return kept * jnp.broadcast_to(weights, entries.shape)
