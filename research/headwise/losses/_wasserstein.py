"""Generalized Wasserstein Dice: some confusions of classes cost less than others."""

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _overlap
from headwise.typing import Array

_WEIGHTINGS = ("default", "simple")


def _unit_distances(distances: Array, preds: Array) -> Array:
    """[C, C] over its largest entry, of the dtype of preds."""
    distances = _checks.array("distances", distances)
    channels = jnp.shape(preds)[-1]
    if distances.shape != (channels, channels):
        raise ValueError(
            f"distances: expected one entry a pair of classes, shape ({channels}, "
            f"{channels}) for preds {jnp.shape(preds)}, got {distances.shape}"
        )
    distances = distances.astype(preds.dtype)
    return _numerics.safe_divide(
        distances, jnp.full_like(distances, jnp.max(distances)), 0.0
    )


@_reduction.values_per("example")
def generalized_wasserstein_dice(
    preds: Array,
    targets: Array,
    *,
    distances: Array,
    where: Array | None = None,
    ignore: int | None = None,
    weighting: str = "default",
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1e-5,
    over_batch: bool = False,
) -> Array:
    """Generalized Wasserstein Dice loss, one value an example.

    M = distances / max(distances) says how far apart two classes are. A position of
    class l has the error (the Wasserstein distance of p to the target)::

        W = Σ_c M[l, c] p_c

    Then with a weight a_l of its class, over the positions that count::

        loss[b] = 1 - (2 Σ a_l (1 - W) + s_n) / (2 Σ a_l (1 - W) + Σ W + s_d)

    a_l is 0 for class 0, the background, and 1 for others. `weighting="simple"` weighs
    by the inverse of the target volume V_l = Σ t_l, background included, in the errors
    as well::

        loss[b] = 1 - (2 Σ a_l (1 - W) + s_n) / (Σ a_l (2 - W) + s_d)
        a_l     = 1 / (V_l + 1)

    Conventions: the formulas of MONAI and of the authors' code ("simple" is "GDL"
    there). These apply softmax themselves; here `activation` says so. W is computed as
    1 - Σ_c (1 - M[l, c]) p_c: where p sums to less than 1, the rest is at distance 1.

    Args:
        preds: [B, *S, C] float, probabilities that sum to 1 (or logits, with
            `activation=jax.nn.softmax`).
        targets: integer labels [B, *S], or one-hot. Soft [B, *S, C] give the mean of W
            over the classes. A position of no class counts neither as right nor wrong.
        distances: [C, C], >= 0, 0 on the diagonal; row: class of the target. Its scale
            does not matter. May be traced.
        where, ignore, activation, smooth: as in `dice`.
        weighting: "default" or "simple".
        over_batch: sum over the batch as well before the ratio.

    Returns:
        [B] in [0, 1] where p sums to 1; a scalar with `over_batch`. 0 if all positions
        are masked and s_n = s_d.

    Raises:
        ValueError, TypeError: as `dice`; `weighting` is unknown, or `distances` is not
            [C, C].

    Example:
        >>> m = jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]])
        >>> p = jnp.array([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])    # says 0 and 2
        >>> t = jnp.array([[0, 1]])
        >>> loss = hw.losses.generalized_wasserstein_dice
        >>> print(f"{loss(p, t, distances=m, smooth=0.0)[0]:.4f}")
        0.3333

        W = 0 and 0.5: 1 - 2 * 0.5 / (2 * 0.5 + 0.5). Any distance of 1 gives a loss of
        1 here.

    References:
        Fidon et al., "Generalised Wasserstein Dice score for imbalanced multi-class
        segmentation using holistic convolutional networks", BrainLes 2017; Tilborghs
        et al., "Comparative study of deep learning methods for the automatic
        segmentation of lung, lesion and lesion type in CT scans of COVID-19 patients",
        2020, appendix (`weighting="simple"`).
    """
    _checks.choice("weighting", _WEIGHTINGS, weighting)
    _checks.boolean("over_batch", over_batch)
    p, t, _ = _inputs.check(preds, targets, where, ignore, activation).arrays()
    near = 1.0 - _unit_distances(distances, p)
    axes = tuple(range(1, p.ndim - 1))
    confusion = lax.dot_general(
        t, p, ((axes, axes), ((0,), (0,))), precision=lax.Precision.HIGHEST
    )
    right = jnp.sum(confusion * near[None], -1)  # [B, C]: sum of 1 - W by target
    volume = jnp.sum(t, axes)
    if over_batch:
        right, volume = jnp.sum(right, 0), jnp.sum(volume, 0)
    if weighting == "simple":
        weights = 1.0 / (volume + 1.0)
        above = 2.0 * jnp.sum(weights * right, -1)
        return _overlap.distance(above, jnp.sum(weights * (volume + right), -1), smooth)
    above = 2.0 * jnp.sum(right[..., 1:], -1)
    return _overlap.distance(above, above + jnp.sum(volume - right, -1), smooth)
