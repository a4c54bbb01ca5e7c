"""Dice and cross entropy on one output."""

import functools

import jax

from headwise import _checks
from headwise import _reduction
from headwise.losses import _binary_cross_entropy
from headwise.losses import _cross_entropy
from headwise.losses import _inputs
from headwise.losses import _mix
from headwise.losses import _options
from headwise.losses import _region
from headwise.typing import Array
from headwise.typing import Loss


def by_activation(
    activation: _inputs.Activation, of_softmax: Loss, of_sigmoid: Loss
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


@_reduction.values_per("example")
def dice_ce(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = jax.nn.softmax,
    dice_weight: float | Array = 1.0,
    ce_weight: float | Array = 1.0,
    smooth: _options.Smooth = 1e-5,
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
    positions and channels. With softmax and integer labels both parts come from one
    pass over the logits.

    Conventions: the activation governs both parts (in MONAI `sigmoid=True` with several
    channels still gets softmax cross entropy). `background=False` concerns the Dice
    part alone, as there. `class_weights` act in each part as in that part's own loss.

    Args:
        preds: [B, *S, C] logits.
        targets, where, ignore, smooth, squared: as in `dice`.
        background, class_weights: as in `dice`.
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
    _checks.nonnegative("dice_weight", dice_weight)
    _checks.nonnegative("ce_weight", ce_weight)
    of_positions = by_activation(
        activation,
        _cross_entropy.cross_entropy,
        _binary_cross_entropy.binary_cross_entropy,
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
