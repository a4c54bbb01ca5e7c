"""Dice and IoU of hard predictions, and pixel accuracy, as sums over a stream."""

from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.metrics import _arrays
from headwise.metrics import _ratio
from headwise.typing import Array


class _Counts(NamedTuple):
    """Positions of a class, [B, C] integers."""

    intersection: Array
    preds: Array
    targets: Array


def _hard_preds(preds: Array) -> Array:
    """Masks [B, *S, C]: as they are, or the class with the largest value."""
    if preds.dtype == bool:
        return preds
    return _arrays.members(jnp.argmax(preds, -1), preds.shape[-1])


def _check(preds: Array, targets: Array) -> None:
    """Raises unless hard predictions can be read off preds and compared.

    Scores want labels; bool preds want labels or bool targets.
    """
    if preds.ndim < 2:
        raise ValueError(f"preds: expected [B, *S, C], got shape {preds.shape}")
    if preds.dtype == bool:
        if _arrays.are_labels(preds, targets):
            return
        if targets.dtype != bool or targets.shape != preds.shape:
            raise ValueError(
                f"targets: expected bool {preds.shape} like preds, or integer labels "
                f"{preds.shape[:-1]}; got {targets.dtype} {targets.shape}"
            )
        return
    _arrays.check_floating(preds, 2, "[B, *S, C]")
    if not _arrays.are_labels(preds, targets):
        raise ValueError(
            f"targets: expected integer labels {preds.shape[:-1]} for the largest of "
            f"preds {preds.shape}, got {targets.dtype} {targets.shape}; for classes "
            "that are not exclusive give both as bool, such as preds > 0.5"
        )
    if preds.shape[-1] < 2:
        raise ValueError(
            "preds: the largest of one channel says nothing; give both as bool "
            f"{preds.shape}, such as preds > 0.5"
        )


def _counted(
    preds: Array, targets: Array, where: Array | None, ignore: int | None
) -> Array:
    """Which entries [B, *S, C] count."""
    kept = _arrays.valid(where, preds.shape)
    if ignore is None:
        return kept
    return kept & _arrays.not_ignored(preds, targets, ignore)[..., None]


def _count(
    preds: Array,
    targets: Array,
    where: Array | None,
    ignore: int | None,
    background: bool,
) -> _Counts:
    """Checks the arguments and counts the positions of each class, [B, C].

    In integers, which are exact where float32 is not.
    """
    preds, targets = _arrays.both(preds, targets)
    _check(preds, targets)
    _arrays.check_background(background, preds.shape[-1])
    counted = _counted(preds, targets, where, ignore)
    p = _hard_preds(preds) & counted
    t = targets if targets.dtype == bool else _arrays.members(targets, preds.shape[-1])
    t = t & counted
    axes = tuple(range(1, p.ndim - 1))
    integer = jnp.result_type(int)
    sums = [jnp.sum(flags, axes, dtype=integer) for flags in (p & t, p, t)]
    return _Counts(*(s if background else s[:, 1:] for s in sums))


def _ratio_of(
    above: Array, below: Array, factor: int, per_example: bool
) -> _ratio.Ratio:
    """Sums [C] over the batch of factor · above and of below, or of their ratios."""
    _checks.boolean("per_example", per_example)
    dtype = _arrays.floating()
    if not per_example:
        total = factor * jnp.sum(above, 0).astype(dtype)
        return _ratio.Ratio(total, jnp.sum(below.astype(dtype), 0))
    values = _ratio.Ratio(factor * above.astype(dtype), below.astype(dtype)).value
    seen = below > 0
    return _ratio.Ratio(
        jnp.sum(jnp.where(seen, values, 0), 0), _arrays.count(seen, (0,))
    )


def dice(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    background: bool = True,
    per_example: bool = False,
) -> _ratio.Ratio:
    """Dice coefficient of hard predictions, one ratio a class.

    With P and T the positions predicted and labelled as class c, that count::

        dice[c] = 2 |P and T| / (|P| + |T|)

    summed over all examples before the ratio; with `per_example` the mean over the
    examples of each one's ratio, as papers on medical images report it. An example in
    which neither P nor T has a position does not count then.

    Args:
        preds: [B, *S, C] floating, probabilities or logits, of which the largest is
            taken; or bool, for classes that are not exclusive or for one channel.
            Predicted labels go in as `jax.nn.one_hot(labels, C, dtype=bool)`.
        targets: integer labels [B, *S] (one outside 0..C-1 is no class); or bool like
            preds, if these are bool.
        where: bool, True where a position counts: [B], [B, *S] or any prefix, or with
            a channel axis; axes of length 1 broadcast.
        ignore: a label; positions that have it count no more than masked ones.
        background: False drops channel 0 of the result.
        per_example: mean of the ratios of examples, in place of one ratio of sums.

    Returns:
        `Ratio` of shape [C] ([C-1] without background); add those of all batches.
        `.value` [C] in [0, 1], NaN for a class seen in neither; `.mean` over the
        classes seen. Counts are exact up to 2³¹ - 1 positions an example.

    Raises:
        ValueError: shapes or kinds of preds and targets do not fit (both are
            printed).
        TypeError: preds neither floating nor bool, `where` not bool.

    Example:
        >>> p = jnp.array([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]])
        >>> score = hw.metrics.dice(p, jnp.array([[0, 1, 0, 0]]))
        >>> print(score.value)  # 2 · 2 / (2 + 3) and 2 · 1 / (2 + 1)
        [0.8       0.6666667]

    References:
        Dice, "Measures of the amount of ecologic association between species",
        Ecology, 1945.
    """
    s = _count(preds, targets, where, ignore, background)
    # |P| + |T| may be too large for an integer.
    preds, targets = (x.astype(_arrays.floating()) for x in (s.preds, s.targets))
    return _ratio_of(s.intersection, preds + targets, 2, per_example)


def iou(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    background: bool = True,
    per_example: bool = False,
) -> _ratio.Ratio:
    """Intersection over union of hard predictions, one ratio a class.

    With P and T the positions predicted and labelled as class c, that count::

        iou[c] = |P and T| / |P or T|

    summed over all examples before the ratio, as the benchmarks do: `.mean` of the
    sum over a data set is its mIoU. A class that no image has and no prediction names
    is left out of that mean; some evaluations count it as 0 or 1.

    Args:
        preds, targets, where, ignore, background, per_example: as in `dice`.

    Returns:
        `Ratio` of shape [C] ([C-1] without background), as `dice`.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]])
        >>> score = hw.metrics.iou(p, jnp.array([[0, 1, 0, -1]]), ignore=-1)
        >>> print(score.value, score.mean)  # 1 / 2 and 1 / 2; the last is ignored
        [0.5 0.5] 0.5
    """
    s = _count(preds, targets, where, ignore, background)
    return _ratio_of(
        s.intersection, s.preds + s.targets - s.intersection, 1, per_example
    )


def pixel_accuracy(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
) -> _ratio.Ratio:
    """Share of the positions whose largest prediction is their label.

    Args:
        preds: [B, *S, C] floating, probabilities or logits.
        targets: integer labels [B, *S]; one outside 0..C-1 is never right.
        where: bool, True where a position counts: [B], [B, *S] or any prefix; axes
            of length 1 broadcast.
        ignore: a label; positions that have it count no more than masked ones.

    Returns:
        `Ratio`, scalar; `.value` in [0, 1], NaN if nothing counts.

    Raises:
        ValueError, TypeError: as `dice`.

    Example:
        >>> p = jnp.array([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]])
        >>> print(hw.metrics.pixel_accuracy(p, jnp.array([[0, 1, 0, 0]])).value)
        0.75
    """
    preds, targets = _arrays.both(preds, targets)
    _arrays.check_floating(preds, 2, "[B, *S, C]")
    _check(preds, targets)
    counted = _arrays.valid(where, targets.shape)
    if ignore is not None:
        counted = counted & _arrays.not_ignored(preds, targets, ignore)
    right = (jnp.argmax(preds, -1) == targets) & counted
    return _ratio.Ratio(_arrays.count(right), _arrays.count(counted))
