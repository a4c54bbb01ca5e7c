"""Cross entropy of independent channels: the sigmoid loss of one entry."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.typing import Array


def smoothed(targets: Array, label_smoothing: float | Array) -> Array:
    """Targets in [0, 1], of which a share is moved to 1/2."""
    _checks.fraction("label_smoothing", label_smoothing)
    if _options.is_zero(label_smoothing):
        return targets
    return (1.0 - label_smoothing) * targets + label_smoothing / 2


@_reduction.values_per("entry")
def binary_cross_entropy(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    class_weights: Array | None = None,
    positive_weight: float | Array = 1.0,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Sigmoid cross entropy, one value an entry: each channel is a question of its own.

    With p = sigmoid(logits), w the class weights and q the positive weight::

        loss = w_c (q t (-log p) + (1 - t) (-log(1 - p)))
        t    = (1 - label_smoothing) t + label_smoothing / 2

    Conventions: `class_weights` multiply the values as they are (no softmax ties the
    channels, so each scales its own), unlike in `cross_entropy`. PyTorch's
    `pos_weight` is `positive_weight`; MONAI's DiceCELoss gives its `weight` there.

    Args:
        preds, targets, where, ignore: as in `cross_entropy`; `where` may also be
            [B, *S, C]. Integer labels need two or more channels.
        class_weights: [C], >= 0. May be traced.
        positive_weight: >= 0, a float or [C]. May be traced.
        label_smoothing: in [0, 1]. May be traced.

    Returns:
        [B, *S, C], >= 0, float32 or float64; 0 where masked.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> logits, t = jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([[1.0, 0.0]])
        >>> print(hw.losses.binary_cross_entropy(logits, t))      # -log 1/2, -log 1/4
        [[0.6931472 1.3862944]]
    """
    _checks.nonnegative("positive_weight", positive_weight, axes=True)
    inputs = _inputs.check(preds, targets, where, ignore)
    z, t, counts = _options.only_weighed(inputs, class_weights).arrays()
    t = smoothed(t, label_smoothing)
    positive = _options.per_channel("positive_weight", positive_weight, z)
    values = positive * t * jax.nn.softplus(-z) + (1.0 - t) * jax.nn.softplus(z)
    values = _options.weigh_classes(values, class_weights)
    return values if counts is None else jnp.where(counts, values, 0)
