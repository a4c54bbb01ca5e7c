"""Losses that count true negatives too: Matthews correlation, specificity."""

import math

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.typing import Array


@_reduction.values_per("class")
def mcc(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Matthews correlation loss, one value an example and class.

    With the soft counts over the positions that count, tp = Σ p t, fp = Σ p (1 - t),
    fn = Σ (1 - p) t and tn = Σ (1 - p) (1 - t), and v_p = (tp + fp) (tn + fn),
    v_t = (tp + fn) (tn + fp)::

        loss[b, c] = 1 - (tp tn - fp fn + s_n v_t)
                         / sqrt((v_p + s_d v_t) (v_t + s_d v_t))

    True negatives count, unlike in `dice`: preds without any relation to the targets
    have loss 1 whatever the volumes.

    Conventions: MONAI adds 1e-5 to the product of the four sums under the root, and
    nothing above. Here s is relative to the targets: the loss does not depend on the
    size of the image, is 0 for perfect preds and has a bounded gradient. The counts are
    taken as fractions of the positions, whose products stay in the range of float32 for
    volumes of any size.

    Args:
        preds, targets, where, ignore, activation: as in `dice`.
        background, class_weights, over_batch: as in `dice`.
        smooth: s >= 0, a float or (s_n, s_d). May be traced.

    Returns:
        [B, C] in [0, 2] ([B, C-1] without background; [C] with `over_batch`): 0 for
        perfect, 1 for unrelated, 2 for inverted preds. The correlation is not defined
        for a class that is in none or in all of the positions of the targets: then the
        loss is 0 if preds are perfect and else 1, without a gradient, as in MONAI. All
        masked: 0.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[1.0], [1.0], [0.0], [0.0], [0.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [0.0], [1.0], [0.0], [0.0], [0.0]]])
        >>> print(f"{hw.losses.mcc(p, t)[0, 0]:.3f}")
        0.750

        tp = fp = fn = 1 and tn = 3: 1 - (3 - 1) / sqrt(2 * 2 * 4 * 4).

    References:
        Abhishek and Hamarneh, "Matthews correlation coefficient loss for deep
        convolutional networks: application to skin lesion segmentation", ISBI 2021.
    """
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    arrays = inputs.arrays()
    (p, t, where), axes = arrays, arrays.summed_axes(over_batch)
    free = (1.0 - p) * (1.0 - t)
    if where is None:
        count = jnp.full((), math.prod(p.shape[axis] for axis in axes), p.dtype)
    else:
        free = jnp.where(where, free, jnp.zeros_like(free))
        count = jnp.sum(jnp.broadcast_to(where, p.shape), axes, dtype=p.dtype)
    sums = [jnp.sum(x, axes) for x in (p * t, p * (1.0 - t), (1.0 - p) * t, free)]
    count = jnp.broadcast_to(count, sums[0].shape)
    tp, fp, fn, tn = (_numerics.safe_divide(x, count, 0.0) for x in sums)
    v_p, v_t = (tp + fp) * (tn + fn), (tp + fn) * (tn + fp)
    above, below = _options.smoothing(smooth, v_t.shape)
    product = (v_p + below * v_t) * (v_t + below * v_t)
    undefined = product <= 0
    root = jnp.sqrt(jnp.where(undefined, jnp.ones_like(product), product))
    perfect = (fp == 0) & (fn == 0)
    values = jnp.where(
        undefined,
        jnp.where(perfect, jnp.zeros_like(root), jnp.ones_like(root)),
        1.0 - (tp * tn - fp * fn + above * v_t) / root,
    )
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def sensitivity_specificity(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    sensitivity_weight: float | Array = 0.05,
    activation: _inputs.Activation = None,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Sensitivity-specificity loss, one value an example and class.

    The mean squared error of the class and that of the rest, with weights r and 1 - r,
    over the positions that count::

        loss[b, c] = r Σ (t - p)² t / Σ t + (1 - r) Σ (t - p)² (1 - t) / Σ (1 - t)

    Convention: a term whose sum below is 0 is 0; nothing is added to the sums.

    Args:
        preds, targets, where, ignore, activation: as in `dice`.
        background, class_weights, over_batch: as in `dice`.
        sensitivity_weight: r in [0, 1]. The small default is that of the paper, where
            the class is rare. May be traced.

    Returns:
        [B, C] in [0, 1] ([B, C-1] without background; [C] with `over_batch`).

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[0.5], [0.0], [0.5], [0.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [0.0], [0.0], [0.0], [0.0]]])
        >>> loss = hw.losses.sensitivity_specificity(p, t, sensitivity_weight=0.2)
        >>> print(loss)                                # 0.2 * 0.25 / 1 + 0.8 * 0.25 / 4
        [[0.1]]

    References:
        Brosch et al., "Deep convolutional encoder networks for multiple sclerosis
        lesion segmentation", MICCAI 2015.
    """
    _checks.fraction("sensitivity_weight", sensitivity_weight)
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    arrays = inputs.arrays()
    (p, t, where), axes = arrays, arrays.summed_axes(over_batch)
    rest = 1.0 - t
    if where is not None:
        rest = jnp.where(where, rest, jnp.zeros_like(rest))

    def error(of: Array) -> Array:
        return _numerics.safe_divide(
            jnp.sum((t - p) ** 2 * of, axes), jnp.sum(of, axes), 0.0
        )

    r = sensitivity_weight
    values = r * error(t) + (1.0 - r) * error(rest)
    return _options.weigh_classes(values, class_weights, background)
