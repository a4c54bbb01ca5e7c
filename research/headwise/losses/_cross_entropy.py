"""Cross entropy of a position, over exclusive classes or channel by channel."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.losses import _arrays
from headwise.losses import _softmax
from headwise.typing import Array


def is_zero(option: float | Array) -> bool:
    """Whether an option is the number 0, known before tracing."""
    return isinstance(option, float | int) and option == 0


def unit_mean(class_weights: Array) -> Array:
    """The weights over their mean; all 0 stays 0."""
    mean = jnp.broadcast_to(jnp.mean(class_weights), class_weights.shape)
    return _numerics.safe_divide(class_weights, mean, 0.0)


def times_classes(values: Array, of_class: Array | None) -> Array:
    """Values [..., C] times one factor a class."""
    if of_class is None:
        return values
    return values * jnp.broadcast_to(of_class, values.shape)


def of_label(labels: Array, of_class: Array) -> Array:
    """The entry [B, *S] of [C] that belongs to each label; 0 where it is no class."""
    return _softmax.at(
        labels, jnp.broadcast_to(of_class, (*labels.shape, len(of_class)))
    )


def soft_parts(
    preds: Array,
    targets: Array,
    where: Array | None,
    ignore: int | None,
    label_smoothing: float | Array = 0.0,
) -> tuple[Array, Array]:
    """Log p and targets, [B, *S, C]; both finite, targets 0 where nothing counts.

    A class with logit -inf may have a target of 0. Label smoothing moves some of a
    position's mass to all classes alike.
    """
    log_p, t, _ = _arrays.prepare(preds, targets, where, ignore, jax.nn.log_softmax)
    if not is_zero(label_smoothing):
        even = jnp.sum(t, -1, keepdims=True) / t.shape[-1]
        t = (1.0 - label_smoothing) * t + label_smoothing * even
    return jnp.where(t == 0, 0, log_p), t


def _even_surprise(
    logits: Array, labels: Array, surprise: Array, weights: Array | None
) -> Array:
    """Σ_c v_c (-log p_c) / C, from -log p of the label alone."""
    shown, channels = _softmax.visible(logits, labels), logits.shape[-1]
    shares = jnp.ones(channels) if weights is None else weights
    shares, whole = shares / channels, jnp.sum(shares) / channels
    label = jnp.where(_softmax.is_label(labels, channels), whole, 0)
    rest = jnp.sum((label - jnp.broadcast_to(shares, label.shape)) * shown, -1)
    return jnp.where(labels >= 0, whole * surprise + rest, 0)


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
    `sum(values) / sum(v[labels])`. Keras has no class weights in the loss.

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
    weights = _arrays.class_weights_for(class_weights, preds)
    if weights is not None:
        weights = unit_mean(weights)
    labels = _softmax.labels_of(preds, targets, where, ignore)
    if labels is None:
        log_p, t = soft_parts(preds, targets, where, ignore, label_smoothing)
        return -jnp.sum(times_classes(t, weights) * log_p, -1)
    preds = jnp.asarray(preds)
    surprise = _softmax.label_sums(preds, labels).surprise
    values = surprise if weights is None else surprise * of_label(labels, weights)
    if is_zero(label_smoothing):
        return values
    even = _even_surprise(preds, labels, surprise, weights)
    return (1.0 - label_smoothing) * values + label_smoothing * even


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
    weights = _arrays.class_weights_for(class_weights, preds)
    if weights is not None:
        weights = unit_mean(weights)
    labels = _softmax.labels_of(preds, targets, where, ignore)
    if labels is None:
        log_p, t = soft_parts(preds, targets, where, ignore)
        values = -log_p - epsilon * jnp.expm1(log_p)
        return jnp.sum(times_classes(t, weights) * values, -1)
    surprise = _softmax.label_sums(preds, labels).surprise
    values = surprise - epsilon * jnp.expm1(-surprise)
    return values if weights is None else values * of_label(labels, weights)


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
    z, t, counts = _arrays.prepare(preds, targets, where, ignore)
    if not is_zero(label_smoothing):
        t = (1.0 - label_smoothing) * t + label_smoothing / 2
    positive = per_channel("positive_weight", positive_weight, z)
    values = positive * t * jax.nn.softplus(-z) + (1.0 - t) * jax.nn.softplus(z)
    values = _arrays.weigh_classes(values, class_weights, z)
    return values if counts is None else jnp.where(counts, values, 0)


def per_channel(argument: str, option: float | Array, like: Array) -> Array:
    """An option that is a scalar or [C], in the shape of [B, *S, C]."""
    option = jnp.asarray(option, like.dtype)
    if option.shape not in ((), like.shape[-1:]):
        raise ValueError(
            f"{argument}: expected a scalar or one entry a channel, shape "
            f"({like.shape[-1]},), got {option.shape}"
        )
    return jnp.broadcast_to(option, like.shape)
