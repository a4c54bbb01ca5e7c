"""Cross entropy over exclusive classes: the softmax losses of one position."""

import math

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.losses import _class_axis
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _softmax
from headwise.typing import Array


def soft_parts(
    inputs: _inputs.Inputs, label_smoothing: float | Array = 0.0
) -> tuple[Array, Array]:
    """Log p and targets, [B, *S, C]; both finite, targets 0 where nothing counts.

    A class with logit -inf may have a target of 0. Label smoothing moves some of a
    position's mass to all classes alike.
    """
    log_p, t, _ = inputs._replace(activation=jax.nn.log_softmax).arrays()
    if not _options.is_zero(label_smoothing):
        even = jnp.sum(t, -1, keepdims=True) / t.shape[-1]
        t = (1.0 - label_smoothing) * t + label_smoothing * even
    return jnp.where(t == 0, 0, log_p), t


def _even_nll(logits: Array, labels: Array, nll: Array, weights: Array | None) -> Array:
    """Σ_c v_c (-log p_c) / C, from -log p of the label alone."""
    shown, channels = _softmax.visible(logits, labels), logits.shape[-1]
    shares = jnp.ones(channels) if weights is None else weights
    shares, whole = shares / channels, jnp.sum(shares) / channels
    label = jnp.where(_class_axis.is_label(labels, channels), whole, 0)
    rest = jnp.sum((label - jnp.broadcast_to(shares, label.shape)) * shown, -1)
    return jnp.where(labels >= 0, whole * nll + rest, 0)


@_reduction.values_per("position")
def cross_entropy(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Softmax cross entropy of exclusive classes, one value a position.

    With p = softmax(logits) and weights v = w / mean(w) of the classes::

        loss = Σ_c v_c t_c (-log p_c)          v_y (-log p_y) for a label y
        t    = (1 - label_smoothing) t + label_smoothing / C

    Conventions: `class_weights` are divided by their mean (normalised by their sum,
    times C), so that equal weights change nothing and weights of any scale keep the
    loss at its own. A position of class c has weight v_c whatever else is in the batch.
    PyTorch and MONAI divide the sum of all values by the sum of w_y over the batch
    instead, which cancels the weights if the batch holds one class only; their mean is
    `sum(values) / sum(where(known, v[labels], 0))`, `known = labels != ignore`. Keras
    has no class weights in the loss.

    Integer labels are the fast way: one pass over the logits, no one-hot array.

    Args:
        preds: [B, *S, C] logits. bfloat16 and float16 are computed in float32.
        targets: integer labels [B, *S], or one-hot or soft [B, *S, C] in [0, 1]. A
            label outside 0..C-1 is no class: its position has loss 0 and counts.
        where: bool, True where a position counts: [B, *S], [B] or any prefix.
        ignore: a label; positions that have it have loss 0 and, in `hw.Objective` and
            `hw.losses.mix`, do not count in the mean.
        class_weights: [C], >= 0, relative. May be traced.
        label_smoothing: in [0, 1]. May be traced.

    Returns:
        [B, *S], >= 0, float32 or float64; 0 where masked.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
        >>> labels, w = jnp.array([1, 2]), jnp.array([1.0, 1.0, 4.0])
        >>> loss = hw.losses.cross_entropy(logits, labels)           # -log .25, -log .8
        >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")
        1.3863 0.2231
        >>> loss = hw.losses.cross_entropy(logits, labels, class_weights=w)
        >>> print(f"{loss[0]:.4f} {loss[1]:.4f}")                    # v = 1/2, 1/2, 2
        0.6931 0.4463

    References:
        Szegedy et al., "Rethinking the Inception architecture for computer vision",
        CVPR 2016, section 7 (label smoothing).
    """
    _checks.fraction("label_smoothing", label_smoothing)
    inputs = _inputs.check(preds, targets, where, ignore, jax.nn.softmax)
    channels = inputs.preds.shape[-1]
    weights = _options.unit_mean(_options.class_weights_of(class_weights, channels))
    if _options.is_zero(label_smoothing):
        inputs = _options.only_weighed_positions(inputs, weights)
    given = inputs.labels()
    if given is None:
        log_p, t = soft_parts(inputs, label_smoothing)
        return -jnp.sum(_options.times_classes(t, weights) * log_p, -1)
    nll = _softmax.label_sums(*given).nll
    values = _options.times_labels(nll, given.labels, weights)
    if _options.is_zero(label_smoothing):
        return values
    even = _even_nll(*given, nll, weights)
    return (1.0 - label_smoothing) * values + label_smoothing * even


@_reduction.values_per("position")
def poly(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    epsilon: float | Array = 2.0,
    class_weights: Array | None = None,
) -> Array:
    """Poly-1 cross entropy: cross entropy plus a multiple of 1 - p.

    ::

        loss = Σ_c v_c t_c (-log p_c + epsilon (1 - p_c))

    It changes the first coefficient of the series of -log p in 1 - p. epsilon = 0 is
    `cross_entropy`; the default is optax's. For soft targets optax adds
    `epsilon (1 - Σ t p)`, which is the same if the t sum to 1.

    Args:
        preds, targets, where, ignore, class_weights: as in `cross_entropy`.
        epsilon: >= -1. May be traced.

    Returns:
        [B, *S], as `cross_entropy`.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
        >>> loss = hw.losses.poly(logits, jnp.array([1]), epsilon=2.0)
        >>> print(f"{loss[0]:.4f}")                       # -log .25 + 2 * .75
        2.8863

    References:
        Leng et al., "PolyLoss: a polynomial expansion perspective of classification
        loss functions", ICLR 2022.
    """
    _checks.between("epsilon", -1, math.inf, epsilon)
    inputs = _inputs.check(preds, targets, where, ignore, jax.nn.softmax)
    channels = inputs.preds.shape[-1]
    weights = _options.unit_mean(_options.class_weights_of(class_weights, channels))
    inputs = _options.only_weighed_positions(inputs, weights)
    given = inputs.labels()
    if given is None:
        log_p, t = soft_parts(inputs)
        values = -log_p - epsilon * jnp.expm1(log_p)
        return jnp.sum(_options.times_classes(t, weights) * values, -1)
    nll = _softmax.label_sums(*given).nll
    values = nll - epsilon * jnp.expm1(-nll)
    return _options.times_labels(values, given.labels, weights)
