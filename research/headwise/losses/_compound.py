"""A region loss and a loss of single positions on one output."""

import functools

import jax

from headwise.losses import _arrays
from headwise.losses import _cross_entropy
from headwise.losses import _focal
from headwise.losses import _generalized_dice
from headwise.losses import _mix
from headwise.losses import _overlap
from headwise.losses import _region
from headwise.typing import Array
from headwise.typing import Loss


def _by_activation(
    activation: _arrays.Activation, of_softmax: Loss, of_sigmoid: Loss
) -> Loss:
    """The position loss that belongs to the activation."""
    if activation is jax.nn.softmax:
        return of_softmax
    if activation is jax.nn.sigmoid:
        return of_sigmoid
    raise ValueError(
        "activation: expected jax.nn.softmax (exclusive classes) or jax.nn.sigmoid "
        f"(independent channels), which governs both parts; got {activation!r}"
    )


def _focal_of(
    activation: _arrays.Activation,
    ignore: int | None,
    gamma: float | Array,
    alpha: float | Array | None,
    class_weights: Array | None,
    label_smoothing: float | Array,
) -> Loss:
    """The focal loss that belongs to the activation, with its options."""
    loss: Loss = functools.partial(
        _by_activation(activation, _focal.focal, _focal.binary_focal),
        ignore=ignore,
        gamma=gamma,
        alpha=alpha,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
    )
    return loss


def dice_ce(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _arrays.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    ce_weight: float | Array = 1.0,
    smooth: _overlap.Smooth = 1e-5,
    squared: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Dice and cross entropy of one output, one value an example.

    ::

        loss[b] = dice_weight * mean over classes of dice[b, c]
                  + ce_weight * mean over positions of cross entropy[b, ...]

    With `jax.nn.sigmoid` the second part is `binary_cross_entropy`, its mean over
    positions and channels. Both parts come from one pass over the logits.

    Conventions: the activation governs both parts (in MONAI `sigmoid=True` with several
    channels still gets softmax cross entropy). `background=False` concerns the Dice
    part alone, as there. `class_weights` act in each part as in that part's own loss.

    Args:
        preds: [B, *S, C] logits.
        targets, where, ignore, smooth, squared, background, class_weights: as in
            `dice`.
        activation: `jax.nn.softmax` or `jax.nn.sigmoid`.
        dice_weight, ce_weight: >= 0. May be traced; 0 drops the part.
        label_smoothing: in [0, 1], of the cross entropy. May be traced.

    Returns:
        [B], >= 0. Means are over classes and positions that count.

    Raises:
        ValueError, TypeError: as `dice`; or another activation.

    Example:
        >>> logits, labels = jnp.zeros((1, 4, 2)), jnp.array([[0, 0, 1, 1]])
        >>> loss = hw.losses.dice_ce(logits, labels)
        >>> print(f"{loss[0]:.4f}")                  # 1 - 2 * 1 / (2 + 2), plus log 2
        1.1931

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021, supplementary note 4.
    """
    of_positions = _by_activation(
        activation,
        _cross_entropy.cross_entropy,
        _cross_entropy.binary_cross_entropy,
    )
    region: Loss = functools.partial(
        _region.dice,
        ignore=ignore,
        activation=activation,
        smooth=smooth,
        squared=squared,
        background=background,
        class_weights=class_weights,
    )
    positions: Loss = functools.partial(
        of_positions,
        ignore=ignore,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
    )
    parts = {"dice": (region, dice_weight), "ce": (positions, ce_weight)}
    return _mix.mix(parts)(preds, targets, where=where)


def dice_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _arrays.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    focal_weight: float | Array = 1.0,
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    smooth: _overlap.Smooth = 1e-5,
    squared: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Dice and focal loss of one output, one value an example.

    ::

        loss[b] = dice_weight * mean over classes of dice[b, c]
                  + focal_weight * mean over positions of focal[b, ...]

    With `jax.nn.sigmoid` the second part is `binary_focal`, its mean over positions and
    channels. Conventions as in `dice_ce`; in MONAI's DiceFocalLoss `softmax=True` still
    gets the sigmoid focal loss, and `include_background=False` drops the channel of
    both parts.

    Args:
        preds, targets, where, ignore, activation, smooth, squared, background,
            class_weights: as in `dice_ce`.
        dice_weight, focal_weight: >= 0. May be traced; 0 drops the part.
        gamma, alpha, label_smoothing: as in `focal`.

    Returns:
        [B], >= 0. Means are over classes and positions that count.

    Raises:
        ValueError, TypeError: as `dice_ce`.

    Example:
        >>> logits, labels = jnp.zeros((1, 4, 2)), jnp.array([[0, 0, 1, 1]])
        >>> loss = hw.losses.dice_focal(logits, labels)
        >>> print(f"{loss[0]:.4f}")                          # 1/2, plus log(2) / 4
        0.6733
    """
    region: Loss = functools.partial(
        _region.dice,
        ignore=ignore,
        activation=activation,
        smooth=smooth,
        squared=squared,
        background=background,
        class_weights=class_weights,
    )
    positions = _focal_of(
        activation, ignore, gamma, alpha, class_weights, label_smoothing
    )
    parts = {"dice": (region, dice_weight), "focal": (positions, focal_weight)}
    return _mix.mix(parts)(preds, targets, where=where)


def generalized_dice_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _arrays.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    focal_weight: float | Array = 1.0,
    weighting: str = "square",
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    smooth: _overlap.Smooth = 1e-5,
    squared: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    label_smoothing: float | Array = 0.0,
) -> Array:
    """Generalized Dice and focal loss of one output, one value an example.

    ::

        loss[b] = dice_weight * generalized_dice[b]
                  + focal_weight * mean over positions of focal[b, ...]

    Args:
        preds, targets, where, ignore, activation, smooth, squared, background,
            class_weights: as in `dice_ce`.
        dice_weight, focal_weight: >= 0. May be traced; 0 drops the part.
        weighting: as in `generalized_dice`.
        gamma, alpha, label_smoothing: as in `focal`.

    Returns:
        [B], >= 0. Means are over positions that count.

    Raises:
        ValueError, TypeError: as `dice_ce`; or `weighting` is unknown.

    Example:
        >>> logits, labels = jnp.zeros((1, 4, 2)), jnp.array([[0, 0, 1, 1]])
        >>> loss = hw.losses.generalized_dice_focal(logits, labels, smooth=0.0)
        >>> print(f"{loss[0]:.4f}")                          # 1/2, plus log(2) / 4
        0.6733
    """
    region: Loss = functools.partial(
        _generalized_dice.generalized_dice,
        ignore=ignore,
        weighting=weighting,
        activation=activation,
        smooth=smooth,
        squared=squared,
        background=background,
        class_weights=class_weights,
    )
    positions = _focal_of(
        activation, ignore, gamma, alpha, class_weights, label_smoothing
    )
    parts = {"dice": (region, dice_weight), "focal": (positions, focal_weight)}
    return _mix.mix(parts)(preds, targets, where=where)
