"""Generalized Dice: the classes share one ratio, each weighed by its volume."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _overlap
from headwise.typing import Array

_POWER = {"square": 2, "simple": 1, "uniform": 0}


def _relative_to_rarest(volume: Array) -> Array:
    """V_min / V over the classes [..., C]; 1 for an absent one, 0 if all are absent."""
    present = volume > 0
    any_present = jnp.any(present, -1, keepdims=True)
    known = jnp.where(present, volume, jnp.inf)
    rarest = jnp.min(known, -1, keepdims=True)
    rarest = jnp.where(any_present, rarest, jnp.zeros_like(rarest))
    absent = any_present.astype(volume.dtype)
    return jnp.where(present, rarest / jnp.where(present, volume, 1), absent)


@_reduction.values_per("example")
def generalized_dice(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    weighting: str = "square",
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Generalized Dice loss, one value an example.

    The classes are summed before the ratio, each with a weight by its target volume
    V_c = Σ t over the positions that count, relative to the rarest one V_min::

        loss[b] = 1 - (2 Σ_c w_c Σ p t + s_n) / (Σ_c w_c (Σ p + Σ t) + s_d)
        w_c = (V_min / V_c)² ("square"), V_min / V_c ("simple"), 1 ("uniform")

    A class absent from the targets of an example has no finite weight: it gets the
    largest one, 1, that of the rarest class that is there (as in MONAI). If none is
    there, all weights are 0 and the loss is 0. Keras-style code that adds 1e-5 to V_c²
    instead lets an absent class outweigh all others.

    Conventions: elsewhere w_c is 1 / V_c², the same ratio as long as s = 0. There w_c
    times volume falls below s on large volumes: in MONAI a wholly wrong prediction of
    a million positions a class has loss 0.29 with the default s of 1e-5. Here s is in
    positions of the rarest class, as in `dice`; MONAI's s is s V_min² here.

    Args:
        preds, targets, where, ignore, activation, smooth: as in `dice`.
        squared, soft_targets, background: as in `dice`.
        weighting: "square", "simple" or "uniform".
        class_weights: [C], one entry a channel; multiplies w_c.
        over_batch: sum over the batch as well before volumes and ratio.

    Returns:
        [B] in [0, 1]; a scalar with `over_batch`.

    Raises:
        ValueError, TypeError: as `dice`; or `weighting` is unknown.

    Example:
        >>> p = jnp.array([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> t = jnp.array([[0, 0, 1, 1]])
        >>> print(hw.losses.generalized_dice(p, t, smooth=0.0))
        [0.25]

        Both volumes are 2, so w = 1: 1 - 2 * (2 + 1) / (3 + 2 + 1 + 2).

    References:
        Sudre et al., "Generalised Dice overlap as a deep learning loss function for
        highly unbalanced segmentations", DLMIA 2017, section 2.1.
    """
    _checks.choice("weighting", list(_POWER), weighting)
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    s = _overlap.overlap(
        inputs, squared=squared, soft_targets=soft_targets, over_batch=over_batch
    )
    if weighting == "uniform":
        weights = jnp.ones_like(s.volume)
    else:
        weights = _relative_to_rarest(s.volume) ** _POWER[weighting]
    weights = _options.weigh_classes(weights, class_weights, background)
    common, both = s.intersection, s.preds + s.targets
    if class_weights is not None:  # of a class of weight 0 nothing is left
        common, both = (jnp.where(weights == 0, 0, x) for x in (common, both))
    numerator = 2.0 * jnp.sum(weights * common, axis=-1)
    denominator = jnp.sum(weights * both, axis=-1)
    return _overlap.distance(numerator, denominator, smooth)
