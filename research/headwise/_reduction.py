"""From a head's loss and its data to one entry an example and position.

The rule is in one place, since `Objective` and `losses.mix` both need it: which
entries there are, which of them count, and how a mask reaches a loss.
"""

import inspect

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.typing import Array, Loss, PyTree


def takes_where(loss: Loss) -> bool:
    """Whether the loss masks by itself: it has a keyword-only parameter `where`.

    A `where` that is not keyword-only (as optax's cross entropies have) means the
    classes of one example there and is left alone.
    """
    try:
        parameter = inspect.signature(loss).parameters.get("where")
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind is parameter.KEYWORD_ONLY


def align(argument: str, mask: Array, shape: tuple[int, ...]) -> Array:
    """The mask with axes of length 1 appended, so that it broadcasts to the shape.

    Masks and per-example weights are aligned at the batch: [B] covers [B, *S].
    """
    fits = mask.ndim <= len(shape) and all(
        m in (1, s) for m, s in zip(mask.shape, shape, strict=False)
    )
    if not fits:
        raise ValueError(
            f"{argument}: expected a shape that broadcasts, from the batch on, to "
            f"{shape}; got {mask.shape}"
        )
    return mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))


def _hide(tree: PyTree, where: Array) -> PyTree:
    """The arrays with zeros where the mask is False; no gradient passes there."""

    def hide(x: Array) -> Array:
        ndim = min(where.ndim, x.ndim)
        if where.shape[ndim:] != (1,) * (where.ndim - ndim):
            return x
        mask = align("where", where.reshape(where.shape[:ndim]), x.shape)
        return jnp.where(mask, x, jnp.zeros_like(x))

    return jax.tree.map(hide, tree)


def entries(
    name: str, loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> tuple[Array, Array | None]:
    """The unreduced values of a loss and, if masked, which of them count.

    Args:
        name: of the head, for errors.
        loss: `loss(preds, targets)`, with `where=` if it masks by itself.
        preds: array or pytree with the batch as leading axis.
        targets: likewise.
        where: None or bool, broadcastable from the batch on to the values or, for a
            loss that takes `where`, to preds.

    Returns:
        values, at least float32, and a bool array of the same shape or None. Masked
        entries of values are 0 and pass no gradient.

    Raises:
        ValueError: the mask fits neither.
    """
    if where is None:
        values = jnp.asarray(loss(preds, targets))
        return values.astype(_numerics.accumulator(values)), None
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where of head {name!r}: expected bool, got {where.dtype}")
    if takes_where(loss):
        values = jnp.asarray(loss(preds, targets, where=where))
        values = values.astype(_numerics.accumulator(values))
        ndim = min(where.ndim, values.ndim)
        elementwise = values.shape[: where.ndim] == where.shape
        counted = where
        if not elementwise:
            counted = jnp.any(where, axis=tuple(range(1, where.ndim)))
            ndim = 1
        if ndim == 0 or counted.shape[0] not in (1, values.shape[0]):
            return values, jnp.ones(values.shape, bool)
        valid = jnp.broadcast_to(align("where", counted, values.shape), values.shape)
        return jnp.where(valid, values, jnp.zeros_like(values)), valid
    values = jnp.asarray(loss(_hide(preds, where), _hide(targets, where)))
    values = values.astype(_numerics.accumulator(values))
    if where.ndim > values.ndim:
        raise ValueError(
            f"where of head {name!r}: its shape {where.shape} masks positions that the "
            f"loss has reduced to {values.shape}; such a loss must take a keyword-only "
            "argument `where`"
        )
    valid = align(f"where of head {name!r}", where, values.shape)
    valid = jnp.broadcast_to(valid, values.shape)
    return jnp.where(valid, values, jnp.zeros_like(values)), valid


def mean(values: Array, valid: Array | None, axis: tuple[int, ...] | None) -> Array:
    """Mean over the entries that count; 0 where none does."""
    if valid is None:
        return jnp.mean(values, axis)
    count = jnp.sum(valid, axis, dtype=values.dtype)
    return _numerics.safe_divide(jnp.sum(values, axis), count, 0.0)
