"""Losses that know how far a position is from the boundary of the target."""

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _distance
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.typing import Array


def _mean(values: Array, where: Array | None) -> Array:
    """[B, C]: mean over the positions that count; 0 where none does."""
    valid = None if where is None else jnp.broadcast_to(where, values.shape)
    return _reduction.mean(values, valid, tuple(range(1, values.ndim - 1)))


@_reduction.values_per("class")
def boundary(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = None,
    background: bool = True,
    class_weights: Array | None = None,
    spacing: _distance.Spacing = None,
) -> Array:
    """Boundary loss: predictions times signed distances to the target's boundary.

    For example b and class c, mean over the positions i that count::

        loss[b, c] = mean over i of p[i] * phi[i]

    phi[i] is positive outside the target, the distance to its nearest position; inside
    it is minus the depth, the distance to the nearest position outside, less one step.
    Target positions that touch the outside by a face thus have phi = 0. Without a
    boundary (target empty or full) phi is 0 everywhere.

    Conventions: as in the authors' code and in MONAI's `BoundaryLoss`; the one step is
    1 there, and the smallest spacing here. Soft targets are cut at t > 0.5. Masked
    positions are taken as outside the image: they are neither target nor outside when
    distances are taken, so that masked padding changes nothing.

    The loss is linear in p and may be negative. The authors add it to a region loss
    with a weight that grows over the training (`hw.losses.mix`); alone it learns
    nothing of targets that are empty.

    Args:
        preds: [B, *S, C] float, probabilities in [0, 1] (or logits, with
            `activation`), with one spatial axis or more. bfloat16 and float16 are
            summed in float32.
        targets: [B, *S, C] one-hot or soft in [0, 1], or integer labels [B, *S]; a
            label outside 0..C-1 counts as no class.
        where: bool, True where a position counts: [B, *S], [B] or any prefix, or
            with a channel axis; axes of length 1 broadcast.
        ignore: a label; positions that have it count no more than masked ones.
        activation: callable applied to preds first, such as `jax.nn.softmax`; None
            if they are probabilities.
        background: False drops channel 0, after the activation.
        class_weights: [C], one entry a channel, background included; multiplies the
            values (they are not normalised).
        spacing: the distance of neighbours, > 0, one entry a spatial axis; all 1 by
            default. May be traced; no gradient passes to it.

    Returns:
        [B, C] ([B, C-1] without background), float32 or float64, of either sign: at
        least minus, at most plus the largest distance in the image. An example and
        class with an empty or full target, or with all positions masked, has loss 0
        and zero gradient.

    Raises:
        ValueError: shapes do not fit (both are printed), or there is no spatial axis.
        TypeError: `activation` is no callable, `where` not bool, preds not floating.

    Example:
        >>> t = jnp.array([[[0.0], [1.0], [1.0], [1.0], [0.0]]])
        >>> p = jnp.array([[[0.5], [1.0], [1.0], [1.0], [0.0]]])
        >>> print(hw.losses.boundary(p, t))
        [[-0.1]]

        Here phi = 1, 0, -1, 0, 1: (0.5 - 1) / 5.

    References:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.
    """
    inputs = _inputs.check(
        preds, targets, where, ignore, activation, background, axes=_inputs.SPATIAL
    )
    inputs = _options.only_weighed(inputs, class_weights)
    p, t, counted = inputs.arrays()
    axes = range(1, p.ndim - 1)
    phi = _distance.signed_distances(t > 0.5, counted, axes, spacing, p.dtype)
    values = p * lax.stop_gradient(phi)
    if jnp.issubdtype(jnp.result_type(targets), jnp.floating):
        values = jnp.where(jnp.isnan(t), jnp.nan, values)  # t > 0.5 would hide it
    values = _mean(values, counted)
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def hausdorff(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    alpha: float | Array = 2.0,
    log: bool = False,
    activation: _inputs.Activation = None,
    background: bool = True,
    class_weights: Array | None = None,
    spacing: _distance.Spacing = None,
) -> Array:
    """Hausdorff loss by distance transforms: errors far from the boundaries cost more.

    For example b and class c, mean over the positions i that count::

        value[b, c] = mean over i of (p[i] - t[i])² (D_p[i]^alpha + D_t[i]^alpha)
        loss[b, c] = log(1 + value[b, c]) if `log`, else value[b, c]

    D_p[i] is the distance of i to the nearest position on the other side of the
    boundary of {p > 0.5}, D_t the same for {t > 0.5}. No gradient passes through the
    distances. A mask without a boundary (empty or full) has D = 0: where one of both is
    such, the distances of the other count alone; where both are, the loss is 0, even if
    one is empty and the other full. Combine it with a region loss (`hw.losses.mix`).

    Conventions: as MONAI's `HausdorffDTLoss`, which however leaves out the background
    unless told otherwise. MONAI's `LogHausdorffDTLoss` takes the logarithm after its
    reduction, here each example and class has its own. Masked positions are taken as
    outside the image: they are neither side when distances are taken, so that masked
    padding changes nothing.

    Args:
        preds, targets, where, ignore, activation: as in `boundary`.
        background, class_weights, spacing: as in `boundary`.
        alpha: > 0, 2 in the paper. May be traced.
        log: take log(1 + value), before `class_weights`.

    Returns:
        [B, C] >= 0 ([B, C-1] without background), float32 or float64; 0 for a perfect
        prediction, and if all positions are masked.

    Raises:
        ValueError, TypeError: as `boundary`.

    Example:
        >>> t = jnp.array([[[0.0], [1.0], [0.0], [0.0]]])
        >>> p = jnp.array([[[0.0], [1.0], [0.0], [1.0]]])
        >>> print(hw.losses.hausdorff(p, t))
        [[1.25]]

        One position is wrong, with D_p = 1 and D_t = 2: (1² + 2²) / 4.

    References:
        Karimi and Salcudean, "Reducing the Hausdorff distance in medical image
        segmentation with convolutional neural networks", IEEE TMI 2020.
    """
    _checks.positive("alpha", alpha)
    _checks.boolean("log", log)
    inputs = _inputs.check(
        preds, targets, where, ignore, activation, background, axes=_inputs.SPATIAL
    )
    inputs = _options.only_weighed(inputs, class_weights)
    p, t, counted = inputs.arrays()
    axes = range(1, p.ndim - 1)

    def raised(mask: Array) -> Array:
        sides = _distance.sides(mask, counted, axes, spacing, p.dtype)
        return lax.stop_gradient(sides.inside + sides.outside) ** alpha

    values = _mean((p - t) ** 2 * (raised(p > 0.5) + raised(t > 0.5)), counted)
    if log:
        values = jnp.log1p(values)
    return _options.weigh_classes(values, class_weights, background)
