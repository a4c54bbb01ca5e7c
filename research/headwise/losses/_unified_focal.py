"""Focal powers of region losses: focal Tversky and unified focal."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _overlap
from headwise.losses import _parts
from headwise.losses import _region
from headwise.typing import Array

_LEAST = 1e-7


@_reduction.values_per("class")
def focal_tversky(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    alpha: float | Array = 0.5,
    beta: float | Array = 0.5,
    gamma: float | Array = 0.75,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Focal Tversky loss: a power of `tversky`, one value an example and class.

    ::

        loss[b, c] = tversky[b, c] ** gamma

    With gamma < 1 small losses weigh more, with gamma > 1 large ones.

    Conventions: gamma is the exponent. The paper's gamma is 1 over the exponent: its
    4/3 is 0.75 here. Its alpha weighs false negatives; here, as in `tversky`, alpha
    weighs false positives and beta false negatives, so that its alpha = 0.7 is
    `alpha=0.3, beta=0.7`.

    Args:
        preds, targets, where, ignore, alpha, beta, activation: as in `tversky`.
        smooth, squared, soft_targets, background, over_batch: as in `tversky`.
        gamma: > 0. May be traced.
        class_weights: [C], one entry a channel; multiplies the values after the power.

    Returns:
        [B, C] in [0, 1], as `tversky`. A loss of 0 passes no gradient if gamma < 1
        (it would not be finite).

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[1.0], [1.0], [1.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [0.0], [0.0], [1.0]]])
        >>> loss = hw.losses.focal_tversky(
        ...     p, t, alpha=0.5, beta=2.0, gamma=2.0, smooth=0.0
        ... )
        >>> print(loss)                        # (1 - 1 / (1 + 0.5 * 2 + 2 * 1)) ** 2
        [[0.5625]]

    References:
        Abraham and Khan, "A novel focal Tversky loss function with improved attention
        U-Net for lesion segmentation", ISBI 2019.
    """
    _checks.positive("gamma", gamma)
    values = _region.tversky(
        preds,
        targets,
        where=where,
        ignore=ignore,
        alpha=alpha,
        beta=beta,
        activation=activation,
        smooth=smooth,
        squared=squared,
        soft_targets=soft_targets,
        background=background,
        over_batch=over_batch,
    )
    values = _numerics.safe_power(values, gamma)
    return _options.weigh_classes(values, class_weights, background)


def _with_background(inputs: _inputs.Inputs) -> _inputs.Inputs:
    """One foreground channel as two: [1 - p, p] and [1 - t, t]."""
    if inputs.preds.shape[-1] > 1:
        return inputs
    p, t, _ = inputs.arrays()
    preds, activation = jnp.concatenate([1.0 - p, p], -1), None
    if inputs.activation is jax.nn.sigmoid:  # the softmax of 0 and x
        logits = inputs.preds
        preds = jnp.concatenate([jnp.zeros_like(logits), logits], -1)
        activation = jax.nn.softmax
    targets = jnp.concatenate([1.0 - t, t], -1)
    return inputs._replace(preds=preds, targets=targets, activation=activation)


def _log_probabilities(inputs: _inputs.Inputs) -> _inputs.Arrays:
    """The arrays, with log p for p; without clipping where the logits are known."""
    logs = ((jax.nn.softmax, jax.nn.log_softmax), (jax.nn.sigmoid, jax.nn.log_sigmoid))
    for plain, log in logs:
        if inputs.activation is plain:
            return inputs._replace(activation=log).arrays()
    arrays = inputs.arrays()
    return arrays._replace(preds=jnp.log(jnp.maximum(arrays.preds, _LEAST)))


def _focal_cross_entropy(
    arrays: _inputs.Arrays, shares: Array, focused: Array, gamma: float | Array
) -> Array:
    """[B]: mean over the positions of the sum over the classes; preds are log p."""
    log_p, t, where = arrays
    focus = jnp.where(
        jnp.broadcast_to(focused, log_p.shape),
        _numerics.safe_power(-jnp.expm1(log_p), gamma),
        jnp.ones_like(log_p),
    )
    values = -jnp.sum(jnp.broadcast_to(shares, t.shape) * focus * t * log_p, -1)
    valid = where
    if where is not None:
        valid = jnp.broadcast_to(jnp.any(where, -1), values.shape)
    return _reduction.mean(values, valid, tuple(range(1, values.ndim)))


@_reduction.values_per("example")
def unified_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    weight: float | Array = 0.5,
    delta: float | Array = 0.6,
    gamma: float | Array = 0.5,
    asymmetric: bool = True,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
) -> Array:
    """Unified focal loss, one value an example.

    A focal cross entropy F over the N positions that count and a focal Tversky loss T
    over the C classes; class 0 is the background::

        loss[b] = weight F + (1 - weight) T
        F   = 1/N Σ Σ_c d_c (1 - p_c)^gamma t_c (-log p_c)
        T   = 1/C Σ_c m_c^(1 - gamma)
        m_c = 1 - (tp + s_n) / (tp + delta fn + (1 - delta) fp + s_d)
        d_c = 1 - delta for c = 0, else delta

    Asymmetric: the foreground is not played down in F, nor the background raised in T:
    the exponents are 0 in F for c > 0, and 1 in T for c = 0.

    Conventions: the exponents are those of the asymmetric form in the paper and of the
    authors' code in both forms (the paper's symmetric form has gamma for 1 - gamma);
    the mean over the classes in T is the code's. The authors' code and MONAI are for
    two classes; here all classes but 0 are foreground. MONAI (asymmetric, `delta=0.7`)
    takes the mean over the two classes in F as well, so its F is half of this one, and
    it applies no activation, though its documentation asks for logits.

    Args:
        preds: [B, *S, C] float, probabilities of exclusive classes (or logits, with
            `activation=jax.nn.softmax`). C = 1 is the foreground of two classes
            (logits with `activation=jax.nn.sigmoid`).
        targets, where, ignore, activation, smooth: as in `dice`.
        weight: in [0, 1], share of F. May be traced.
        delta: in [0, 1], weight of the foreground, and of false negatives. May be
            traced.
        gamma: in [0, 1), strength of the powers; 0 is a weighted cross entropy and
            `tversky(alpha=1 - delta, beta=delta)`. May be traced.
        asymmetric: see above.

    Returns:
        [B], >= 0, float32 or float64. Probabilities below 1e-7 count as 1e-7 in F,
        without a gradient; logits with softmax or sigmoid are not clipped. 0 if all
        positions are masked and s_n = s_d.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[0.5], [1.0], [0.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [1.0], [0.0], [0.0]]])
        >>> loss = hw.losses.unified_focal
        >>> print(f"{loss(p, t, weight=1.0)[0]:.4f}")          # 0.6 * log(2) / 4
        0.1040
        >>> print(f"{loss(p, t, weight=0.0, smooth=0.0)[0]:.4f}")
        0.2496

        Background: m = 1 - 2 / (2 + 0.4 * 0.5) = 0.0909. Foreground: m = 1 - 1.5 / (1.5
        + 0.6 * 0.5) = 0.1667, its root is 0.4082; half of the sum is 0.2496.

    References:
        Yeung et al., "Unified Focal loss: generalising Dice and cross entropy-based
        losses to handle class imbalanced medical image segmentation", Computerized
        Medical Imaging and Graphics, 2022.
    """
    for name, share in {"weight": weight, "delta": delta, "gamma": gamma}.items():
        _checks.fraction(name, share)
    _checks.boolean("asymmetric", asymmetric)
    inputs = _inputs.check(preds, targets, where, ignore, activation)
    inputs = _with_background(inputs)
    seen = _parts.seen(1.0 - weight, inputs.preds)
    s = _overlap.overlap(inputs._replace(preds=seen))
    wrong = (1.0 - delta) * s.false_positives + delta * s.false_negatives
    region = _overlap.distance(s.intersection, s.intersection + wrong, smooth)
    first = jnp.arange(inputs.preds.shape[-1]) == 0
    every = jnp.ones_like(first)
    raised = jnp.broadcast_to(~first if asymmetric else every, region.shape)
    region = jnp.where(raised, _numerics.safe_power(region, 1.0 - gamma), region)
    seen = _parts.seen(weight, inputs.preds)
    cross_entropy = _focal_cross_entropy(
        _log_probabilities(inputs._replace(preds=seen)),
        jnp.where(first, 1.0 - delta, delta),
        first if asymmetric else every,
        gamma,
    )
    return _parts.add((weight, cross_entropy), (1.0 - weight, jnp.mean(region, -1)))
