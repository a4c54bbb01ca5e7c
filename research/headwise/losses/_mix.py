"""Several losses on one output, as one loss."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


def _hide_if(hidden: Array, preds: PyTree) -> PyTree:
    def hide(x: Array) -> Array:
        x = jnp.asarray(x)
        return jnp.where(hidden, jnp.zeros_like(x), x)

    return jax.tree.map(hide, preds)


def mix(losses: Mapping[str, tuple[Loss, float | Array]]) -> Loss:
    """Weighted sum of several losses of one output, as one loss.

    For example b::

        loss[b] = Σ_k weight_k * mean over the entries of loss_k[b]

    The mean runs over classes and positions that count, so losses of different
    shapes ([B, C] of Dice, [B, *S] of cross entropy) may be mixed.

    Args:
        losses: {name: (loss, weight)}. A weight may be traced; one of exactly 0
            drops its loss from value and gradient even if that is NaN.

    Returns:
        `loss(preds, targets, *, where=None)` -> [B]; `where` reaches every part.

    Raises:
        ValueError: empty. TypeError: an entry is not (callable, weight).

    Example:
        >>> both = hw.losses.mix({
        ...     "iou": (hw.losses.iou, 1.0),
        ...     "l2": (optax.losses.squared_error, 0.5),
        ... })
        >>> p, t = jnp.array([[[0.5], [1.0]]]), jnp.array([[[1.0], [1.0]]])
        >>> print(f"{both(p, t)[0]:.4f}")  # (1 - 1.5 / 2) + 0.5 * mean(0.25, 0)
        0.3125
    """
    _checks.mapping("losses", losses)
    names = _checks.head_names("losses", losses)
    for name in names:
        entry = losses[name]
        if not (isinstance(entry, tuple) and len(entry) == 2 and callable(entry[0])):
            raise TypeError(
                f"losses[{name!r}]: expected (loss, weight) with a callable loss, got "
                f"{entry!r}"
            )

    @_reduction.values_per("example")
    def mixed(preds: Array, targets: Array, *, where: Array | None = None) -> Array:
        total = None
        for name in names:
            loss, weight = losses[name]
            weight = _checks.scalar(f"weight of {name!r}", weight)
            # Without its predictions a part of weight 0 has no gradient, not even NaN.
            given = _hide_if(weight == 0, preds)
            values, valid = _reduction.entries(name, loss, given, targets, where)
            if values.ndim < 1:
                raise ValueError(
                    f"losses[{name!r}]: expected values with the batch as leading "
                    "axis, got a scalar"
                )
            each = _reduction.mean(values, valid, tuple(range(1, values.ndim)))
            part = _numerics.drop_zero_weight(weight, each)
            total = part if total is None else total + part
        assert total is not None
        return total

    return mixed
