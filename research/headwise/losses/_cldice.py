"""Centreline Dice: the overlap of each mask with the skeleton of the other."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _parts
from headwise.losses import _region
from headwise.losses import _skeleton
from headwise.typing import Array


@_reduction.values_per("class")
def cldice(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    iterations: int = 3,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1.0,
    background: bool = True,
    class_weights: Array | None = None,
) -> Array:
    """Soft centreline Dice loss (clDice) of thin structures, by example and class.

    With soft skeletons S(p) and S(t), over the positions that count::

        precision   = (Σ S(p) t + s_n) / (Σ S(p) + s_d)
        sensitivity = (Σ S(t) p + s_n) / (Σ S(t) + s_d)
        loss[b, c]  = 1 - 2 precision sensitivity / (precision + sensitivity)

    A skeleton is what openings take away from a mask and from its `iterations`
    erosions::

        edge = relu(x - dilate(erode(x)))
        S   <- S + relu(edge - S edge),   x <- erode(x)        iterations + 1 times

    erode takes the least of the windows 3 x 1 and 1 x 3 (3-D: 3 x 1 x 1, 1 x 3 x 1 and
    1 x 1 x 3; 1-D: 3), dilate the greatest of 3 x 3 (3 x 3 x 3; 3).

    Conventions: as in the paper, each example and class has a value of its own. The
    code that was published with it sums over batch and classes and leaves channel 0
    out, as MONAI did: with one channel that is a loss of a constant 0. MONAI 1.6 sums
    over the classes of an example. It also adds 1e-4 below in the last line, so that
    its loss of a perfect mask is 5e-5; here it is 0. `background=False` leaves channel
    0 out.

    Args:
        preds, targets, ignore, activation, background, class_weights: as in `dice`, but
            one spatial axis or more is needed.
        where: as in `dice`. Masked positions lie outside: no window reaches them, as
            none reaches beyond the border.
        smooth: as in `dice`, but 1 by default.
        iterations: how often the masks are eroded; static, >= 0. Enough is the
            half-width of the widest structure, in positions. Each iteration costs
            the same again.

    Returns:
        [B, C] in [0, 1] ([B, C-1] without background), float32 or float64. A class
        absent from both has loss 0 if s_n = s_d. So has a class that is everywhere in
        preds and nowhere in targets: a mask without an edge has no skeleton; use
        `dice_cldice`.

    Raises:
        ValueError, TypeError: as `dice`; or preds have no spatial axis, or `iterations`
            is not an int >= 0.

    Example:
        >>> t = jnp.zeros((1, 5, 5, 1)).at[0, 2].set(1.0)     # a line of 5
        >>> p = t.at[0, 2, 4].set(0.0)                        # one position is missing
        >>> print(f"{hw.losses.cldice(p, t, smooth=0.0)[0, 0]:.4f}")
        0.1111

        Lines are their own skeletons: precision 4/4, sensitivity 4/5, 1 - 1.6 / 1.8.

    References:
        Shit et al., "clDice: a novel topology-preserving loss function for tubular
        structure segmentation", CVPR 2021.
    """
    iterations = _checks.nonnegative_int("iterations", iterations)
    inputs = _inputs.check(
        preds, targets, where, ignore, activation, background, axes=_inputs.SPATIAL
    )
    inputs = _options.only_weighed(inputs, class_weights)
    p, t, where = inputs.arrays()
    of_p = _skeleton.soft_skeleton(p, where, iterations)
    of_t = _skeleton.soft_skeleton(t, where, iterations)
    above, below = _options.smoothing(smooth, (p.shape[0], p.shape[-1]))
    axes = tuple(range(1, p.ndim - 1))

    def share(skeleton: Array, mask: Array) -> Array:
        inside = jnp.sum(skeleton * mask, axes) + above
        return _numerics.safe_divide(inside, jnp.sum(skeleton, axes) + below, 1.0)

    precision, sensitivity = share(of_p, t), share(of_t, p)
    values = 1.0 - _numerics.safe_divide(
        2.0 * precision * sensitivity, precision + sensitivity, 0.0
    )
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def dice_cldice(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    alpha: float | Array = 0.5,
    iterations: int = 3,
    activation: _inputs.Activation = None,
    smooth: _options.Smooth = 1.0,
    background: bool = True,
    class_weights: Array | None = None,
) -> Array:
    """Dice and clDice loss mixed, by example and class.

    As recommended by the authors of clDice, which alone does not see the width::

        loss[b, c] = (1 - alpha) dice[b, c] + alpha cldice[b, c]

    Convention: both parts have the same `smooth`, 1, as in MONAI and in the paper's
    code; `dice` by itself has 1e-5.

    Args:
        preds, targets, where, ignore, iterations: as in `cldice`.
        activation, smooth, background, class_weights: as in `cldice`.
        alpha: in [0, 1], share of clDice. May be traced.

    Returns:
        [B, C] in [0, 1] ([B, C-1] without background), as `cldice`.

    Raises:
        ValueError, TypeError: as `cldice`.

    Example:
        >>> t = jnp.zeros((1, 5, 5, 1)).at[0, 2].set(1.0)     # a line of 5
        >>> p = t.at[0, 2, 4].set(0.0)
        >>> print(f"{hw.losses.dice_cldice(p, t, smooth=0.0)[0, 0]:.4f}")  # both 1/9
        0.1111

    References:
        Shit et al., as in `cldice`.
    """
    _checks.fraction("alpha", alpha)
    of_masks = _region.dice(
        _parts.seen(1.0 - alpha, preds),
        targets,
        where=where,
        ignore=ignore,
        activation=activation,
        smooth=smooth,
        background=background,
        class_weights=class_weights,
    )
    of_lines = cldice(
        _parts.seen(alpha, preds),
        targets,
        where=where,
        ignore=ignore,
        iterations=iterations,
        activation=activation,
        smooth=smooth,
        background=background,
        class_weights=class_weights,
    )
    return _parts.add((1.0 - alpha, of_masks), (alpha, of_lines))
