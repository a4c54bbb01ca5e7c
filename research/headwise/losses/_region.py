"""Dice, Tversky and IoU: one ratio of overlap sums an example and class."""

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _overlap
from headwise.typing import Array


@_reduction.values_per("class")
def dice(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Soft Dice loss, one value an example and class.

    For example b and class c, summed over the positions i where `where` is True::

        loss[b, c] = 1 - (2 Σ p t + s_n) / (Σ p + Σ t + s_d)

    Conventions: s is added to `2 Σ p t` and to the sum, as in MONAI; Keras adds
    1e-7 below only and takes one ratio over batch and classes; optax's `smooth=s` is
    2s here. Some texts print the loss as `1-1-dice`: a misprint for `1 - dice`.

    Args:
        preds: [B, *S, C] float, probabilities in [0, 1] (or logits, with
            `activation`). bfloat16 and float16 are summed in float32.
        targets: [B, *S, C] one-hot or soft in [0, 1], or integer labels [B, *S]; a
            label outside 0..C-1 counts as no class.
        where: bool, True where a position counts: [B, *S], [B] or any prefix, or
            with a channel axis; axes of length 1 broadcast.
        ignore: a label; positions that have it count no more than masked ones.
        activation: callable applied to preds first, such as `jax.nn.softmax`; None
            if they are probabilities. With integer labels `jax.nn.softmax` itself
            (`flax.nnx.softmax` is the same function) takes a faster way with less
            memory; a lambda around it gives the same numbers the long way.
        smooth: s >= 0, a float or (s_n, s_d). May be traced.
        squared: sum p² and t² in the denominator (Milletari et al.).
        soft_targets: min(p, t) in place of p t, so that the loss is least, 0, at p = t
            also for soft targets: p t is not (for t = 0.5 it pulls p to 0 or 1). The
            same for hard targets. With `squared` p t is right already and stays.
        background: False drops channel 0, after the activation.
        class_weights: [C], one entry a channel, background included; multiplies the
            values (they are not normalised).
        over_batch: sum over the batch as well before the ratio.

    Returns:
        [B, C] in [0, 1] ([B, C-1] without background; [C] with `over_batch`),
        float32 or float64. A class absent from both preds and targets, or with all
        its positions masked, has loss 0 and zero gradient if s_n = s_d.

    Raises:
        ValueError: shapes do not fit (both are printed).
        TypeError: `activation` is no callable, `where` not bool, preds not floating.

    Example:
        >>> p = jnp.array([[[0.5], [1.0], [0.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [1.0], [0.0], [0.0]]])
        >>> print(f"{hw.losses.dice(p, t, smooth=0.0)[0, 0]:.4f}")  # 1 - 3 / 3.5
        0.1429

    References:
        Milletari et al., "V-Net", 3DV 2016, section 3; Drozdzal et al., 2016.
        Wang et al., "Dice semimetric losses", MICCAI 2023 (`soft_targets`).
    """
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    s = _overlap.overlap(
        inputs, squared=squared, soft_targets=soft_targets, over_batch=over_batch
    )
    values = _overlap.distance(2.0 * s.intersection, s.preds + s.targets, smooth)
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def tversky(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    alpha: float | Array = 0.5,
    beta: float | Array = 0.5,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Tversky loss: Dice with separate prices for false positives and negatives.

    With tp = Σ p t, fp = Σ p - tp and fn = Σ t - tp over the positions that count::

        loss[b, c] = 1 - (tp + s_n) / (tp + alpha fp + beta fn + s_d)

    alpha = beta = 0.5 is `dice` (with s counted twice), alpha = beta = 1 is `iou`.
    Convention: as in the paper and MONAI; Keras 3 has alpha and beta exchanged.

    Args:
        preds, targets, where, ignore, activation, smooth: as in `dice`.
        squared, soft_targets, background, class_weights, over_batch: as in `dice`.
        alpha: >= 0, weighs false positives. May be traced.
        beta: >= 0, weighs false negatives. May be traced.

    Returns:
        [B, C] in [0, 1], as `dice`. With `squared` a soft p makes fp = Σ p² - tp
        negative, so that other alpha and beta than 0.5 or 1 can leave that range.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[1.0], [1.0], [1.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [0.0], [0.0], [1.0]]])
        >>> loss = hw.losses.tversky(p, t, alpha=0.5, beta=2.0, smooth=0.0)
        >>> print(loss)
        [[0.75]]

        Here tp = 1, fp = 2, fn = 1: 1 - 1 / (1 + 0.5 * 2 + 2 * 1).

    References:
        Salehi et al., "Tversky loss function for image segmentation using 3D fully
        convolutional deep networks", MLMI 2017, equations 3-4.
    """
    _checks.nonnegative("alpha", alpha)
    _checks.nonnegative("beta", beta)
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    s = _overlap.overlap(
        inputs, squared=squared, soft_targets=soft_targets, over_batch=over_batch
    )
    values = _overlap.distance(
        s.intersection,
        s.intersection + alpha * s.false_positives + beta * s.false_negatives,
        smooth,
    )
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def iou(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Soft IoU (Jaccard) loss, one value an example and class.

    Over the positions that count::

        loss[b, c] = 1 - (Σ p t + s_n) / (Σ p + Σ t - Σ p t + s_d)

    Convention: s is added once; MONAI's `jaccard=True` doubles the intersection
    before it adds s, so its `smooth` is twice the one here.

    Args:
        preds, targets, where, ignore, activation, smooth: as in `dice`.
        squared, soft_targets, background, class_weights, over_batch: as in `dice`.

    Returns:
        [B, C] in [0, 1], as `dice`.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[0.5], [1.0], [0.0], [0.0]]])
        >>> t = jnp.array([[[1.0], [1.0], [0.0], [0.0]]])
        >>> print(hw.losses.iou(p, t, smooth=0.0))       # 1 - 1.5 / (1.5 + 2 - 1.5)
        [[0.25]]

    References:
        Rahman and Wang, "Optimizing intersection-over-union in deep neural networks
        for image segmentation", ISVC 2016.
    """
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    s = _overlap.overlap(
        inputs, squared=squared, soft_targets=soft_targets, over_batch=over_batch
    )
    values = _overlap.distance(s.intersection, s.union, smooth)
    return _options.weigh_classes(values, class_weights, background)
