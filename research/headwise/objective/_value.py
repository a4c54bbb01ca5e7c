"""The raw value of one head: what counts of its loss, weighed and averaged."""

import jax
import jax.numpy as jnp

from headwise import _look
from headwise import _reduction
from headwise.objective import _gate
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


def value(
    name: str,
    loss: Loss,
    outputs: PyTree,
    targets: PyTree,
    sample_weights: Array | None,
    where: Array | None,
) -> Array:
    """Σ sample weight * loss / number of entries that count, behind a gate.

    The gate lets a total with weight 0 leave no trace in the gradient, NaN or not.

    Args:
        name: of the head, for error texts.
        loss: `(preds, targets) -> values`, as in `hw.Objective`.
        outputs, targets, sample_weights, where: of this head, as in
            `hw.Objective.values`.
    """

    def of_arrays(
        outputs: PyTree, targets: PyTree, weights: Array | None, mask: Array | None
    ) -> Array:
        if any(x.shape[:1] == (0,) for x in jax.tree.leaves(outputs)):
            return jnp.zeros(())  # no example: there is nothing to ask a loss
        shown = None if weights is None else _shown(name, loss, outputs, weights)
        entries, valid = _reduction.entries(name, loss, outputs, targets, mask, shown)
        if weights is not None:
            entries = _weigh_examples(name, entries, weights, outputs)
        return _reduction.mean(entries, valid, None)

    arrays = jax.tree.map(jnp.asarray, (outputs, targets, sample_weights, where))
    if _look.is_on():  # at the level of the caller, who takes the findings along
        return of_arrays(*arrays)
    return _gate.gate(of_arrays, *arrays)


def _shown(name: str, loss: Loss, outputs: PyTree, sample_weights: Array) -> Array:
    """What a loss may see: what has weight 0 is not there, NaN or not.

    Weights of positions tell of positions where the loss has a value for each.
    """
    shown = sample_weights != 0
    examples = jnp.any(shown, tuple(range(1, shown.ndim)))
    for leaf in jax.tree.leaves(outputs):
        _reduction.align(f"sample_weights of head {name!r}", examples, leaf.shape)
    if _reduction.layout_of(loss) in ("position", "entry"):
        return shown
    if _reduction.layout_of(loss) is None and not _reduction.takes_where(loss):
        return shown
    return examples


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
