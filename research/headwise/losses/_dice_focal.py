"""A Dice loss and a focal loss on one output."""

import functools

import jax

from headwise import _checks
from headwise import _reduction
from headwise.losses import _dice_ce
from headwise.losses import _focal
from headwise.losses import _generalized_dice
from headwise.losses import _inputs
from headwise.losses import _mix
from headwise.losses import _options
from headwise.losses import _region
from headwise.typing import Array
from headwise.typing import Loss


def _focal_of(
    activation: _inputs.Activation,
    ignore: int | None,
    gamma: float | Array,
    alpha: float | Array | None,
    class_weights: Array | None,
    label_smoothing: float | Array,
) -> Loss:
    """The focal loss that belongs to the activation, with its options.

    Both compounds have it beside their region loss.
    """
    loss: Loss = functools.partial(
        _dice_ce.by_activation(activation, _focal.focal, _focal.binary_focal),
        ignore=ignore,
        gamma=gamma,
        alpha=alpha,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
    )
    return loss


@_reduction.values_per("example")
def dice_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    focal_weight: float | Array = 1.0,
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    smooth: _options.Smooth = 1e-5,
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
        preds, targets, where, ignore, activation: as in `dice_ce`.
        smooth, squared, background, class_weights: as in `dice_ce`.
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
    _checks.nonnegative("dice_weight", dice_weight)
    _checks.nonnegative("focal_weight", focal_weight)
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


@_reduction.values_per("example")
def generalized_dice_focal(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    focal_weight: float | Array = 1.0,
    weighting: str = "square",
    gamma: float | Array = 2.0,
    alpha: float | Array | None = None,
    smooth: _options.Smooth = 1e-5,
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
        preds, targets, where, ignore, activation: as in `dice_ce`.
        smooth, squared, background, class_weights: as in `dice_ce`.
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
    _checks.nonnegative("dice_weight", dice_weight)
    _checks.nonnegative("focal_weight", focal_weight)
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
