"""Focal losses: cross entropy that looks away from what is already right."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _binary_cross_entropy
from headwise.losses import _cross_entropy
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _softmax
from headwise.typing import Array


def _class_factors(
    alpha: float | Array | None, class_weights: Array | None, channels: int
) -> Array | None:
    """Alpha times class weights, [C]; None if there is neither.

    A scalar alpha is that of the foreground: channel 0 gets what is left.
    """
    weights = _options.class_weights_of(class_weights, channels)
    if alpha is None:
        return weights
    _checks.fraction("alpha", alpha, axes=True)
    alpha = jnp.asarray(alpha, jnp.result_type(float))
    if alpha.shape == ():
        others = jnp.broadcast_to(alpha, (channels - 1,))
        alpha = jnp.concatenate([1.0 - alpha[None], others])
    if alpha.shape != (channels,):
        raise ValueError(
            f"alpha: expected a scalar or one entry a channel, shape ({channels},), "
            f"got {alpha.shape}"
        )
    return alpha if weights is None else alpha * weights


@_reduction.values_per("position")
def focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Focal loss of exclusive classes (softmax), one value a position.

    With p = softmax(logits)::

        loss = Σ_c w_c alpha_c t_c (1 - p_c)^gamma (-log p_c)
        t    = (1 - label_smoothing) t + label_smoothing / C

    Conventions: a float alpha weighs channel 0, the background, by 1 - alpha and every
    other by alpha (MONAI's `use_softmax=True`); its scalar is lost there with
    `include_background=False`. Keras' default is alpha = 0.25, here there is none.
    MONAI means over the classes too, which divides by C. `class_weights` multiply the
    values as they are.

    Integer labels without label smoothing are the fast way, as in `cross_entropy`.

    Args:
        preds, targets, where, ignore, label_smoothing: as in `cross_entropy`.
        gamma: >= 0; 0 is cross entropy. May be traced.
        alpha: None, in [0, 1], or [C] with one entry a channel. May be traced.
        class_weights: [C], >= 0. May be traced.

    Returns:
        [B, *S], >= 0, float32 or float64; 0 where masked or without a class.

    Raises:
        ValueError, TypeError: as `dice`; or `alpha` has another shape.

    Example:
        >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
        >>> loss = hw.losses.focal(logits, jnp.array([0]), gamma=2.0)
        >>> print(f"{loss[0]:.4f}")                              # (1 - .5)² * log 2
        0.1733

    References:
        Lin et al., "Focal loss for dense object detection", ICCV 2017, section 3.2.
    """
    _checks.nonnegative("gamma", gamma)
    _checks.fraction("label_smoothing", label_smoothing)
    inputs = _inputs.check(preds, targets, where, ignore, jax.nn.softmax)
    factors = _class_factors(alpha, class_weights, inputs.preds.shape[-1])
    if _options.is_zero(label_smoothing):
        inputs = _options.only_weighed_positions(inputs, factors)
    given = inputs.labels()
    if given is None or not _options.is_zero(label_smoothing):
        log_p, t = _cross_entropy.soft_parts(inputs, label_smoothing)
        values = -_numerics.safe_power(-jnp.expm1(log_p), gamma) * log_p
        return jnp.sum(_options.times_classes(t, factors) * values, -1)
    nll = _softmax.label_sums(*given).nll
    values = _numerics.safe_power(-jnp.expm1(-nll), gamma) * nll
    return _options.times_labels(values, given.labels, factors)


@_reduction.values_per("entry")
def binary_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Focal loss of independent channels (sigmoid), one value an entry.

    With p = sigmoid(logits)::

        loss = w_c (alpha t (1 - p)^gamma (-log p)
                    + (1 - alpha) (1 - t) p^gamma (-log(1 - p)))
        t    = (1 - label_smoothing) t + label_smoothing / 2

    Without alpha both terms have factor 1. Conventions: those of the paper, MONAI
    (`FocalLoss`) and optax (`sigmoid_focal_loss`); the alpha of Keras, 0.25, acts with
    `apply_class_balancing=True` only.

    Args:
        preds, targets, where, ignore: as in `binary_cross_entropy`.
        gamma: >= 0; 0 is binary cross entropy. May be traced.
        alpha: None, in [0, 1], or [C]: weighs foreground, 1 - alpha background. May be
            traced.
        class_weights: [C], >= 0. May be traced.
        label_smoothing: in [0, 1]. May be traced.

    Returns:
        [B, *S, C], >= 0, float32 or float64; 0 where masked.

    Raises:
        ValueError, TypeError: as `dice`; or `alpha` has another shape.

    Example:
        >>> logits = jnp.log(jnp.array([[1.0, 3.0]]))            # p = 1/2, 3/4
        >>> loss = hw.losses.binary_focal(logits, jnp.array([[1.0, 0.0]]))
        >>> print(f"{loss[0, 0]:.4f} {loss[0, 1]:.4f}")          # log(2)/4, 9/16 log(4)
        0.1733 0.7798

    References:
        Lin et al., "Focal loss for dense object detection", ICCV 2017, section 3.2.
    """
    _checks.nonnegative("gamma", gamma)
    inputs = _inputs.check(preds, targets, where, ignore)
    z, t, counts = _options.only_weighed(inputs, class_weights).arrays()
    t = _binary_cross_entropy.smoothed(t, label_smoothing)
    hit = _numerics.safe_power(jax.nn.sigmoid(-z), gamma) * jax.nn.softplus(-z)
    miss = _numerics.safe_power(jax.nn.sigmoid(z), gamma) * jax.nn.softplus(z)
    if alpha is not None:
        _checks.fraction("alpha", alpha, axes=True)
        alpha = _options.per_channel("alpha", alpha, z)
        hit, miss = alpha * hit, (1.0 - alpha) * miss
    values = _options.weigh_classes(t * hit + (1.0 - t) * miss, class_weights)
    return values if counts is None else jnp.where(counts, values, 0)
