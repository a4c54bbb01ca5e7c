"""Metrics of the surfaces of masks: Hausdorff distance and surface Dice."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _distance
from headwise.metrics import _arrays
from headwise.metrics._ratio import Ratio
from headwise.typing import Array


def _are_integers(*arrays: Array) -> bool:
    return all(jnp.issubdtype(array.dtype, jnp.integer) for array in arrays)


def _masks(
    preds: Array, targets: Array, num_classes: int | None
) -> tuple[Array, Array]:
    """Both as bool [B, *S, C], whatever form they were given in.

    Raises if they are no masks, scores or labels that fit each other.
    """
    if num_classes is not None:
        num_classes = _checks.positive_int("num_classes", num_classes)
        if not _are_integers(preds, targets) or preds.shape != targets.shape:
            raise ValueError(
                "num_classes: expected integer labels [B, *S] as preds and targets, "
                f"got {preds.dtype} {preds.shape} and {targets.dtype} {targets.shape}"
            )
        preds, targets = (_arrays.members(x, num_classes) for x in (preds, targets))
    elif _arrays.are_labels(preds, targets):
        if jnp.issubdtype(preds.dtype, jnp.floating):
            preds = _arrays.members(jnp.argmax(preds, -1), preds.shape[-1])
        targets = _arrays.members(targets, preds.shape[-1])
    if preds.dtype != bool or targets.dtype != bool or preds.shape != targets.shape:
        raise ValueError(
            "preds, targets: expected bool [B, *S, C], or integer labels [B, *S] as "
            "targets, or as both with num_classes; got "
            f"{preds.dtype} {preds.shape} and {targets.dtype} {targets.shape}"
        )
    if preds.ndim < 3:
        raise ValueError(
            "preds: expected [B, *S, C] with a spatial axis to take distances along, "
            f"got shape {preds.shape}"
        )
    return preds, targets


class _Surfaces(NamedTuple):
    """Surface positions and their distances to the other surface, 0 if it is empty."""

    preds: Array
    """[B, N, C] bool"""
    targets: Array
    preds_to_targets: Array
    """[B, N, C]"""
    targets_to_preds: Array

    @property
    def sizes(self) -> tuple[Array, Array]:
        """How many positions the surfaces have: [B, C] each."""
        return jnp.sum(self.preds, 1), jnp.sum(self.targets, 1)


def _surfaces(
    preds: Array,
    targets: Array,
    num_classes: int | None,
    where: Array | None,
    ignore: int | None,
    spacing: _distance.Spacing,
    background: bool,
) -> _Surfaces:
    """Checks the arguments; surfaces of what counts, and distances between them.

    Positions become one axis: what follows are sums and percentiles over it.
    """
    preds, labels = _arrays.both(preds, targets)
    preds, targets = _masks(preds, labels, num_classes)
    counted = _arrays.valid(where, preds.shape)
    if ignore is not None:
        counted &= _arrays.not_ignored(preds, labels, ignore)[..., None]
    preds, targets = preds & counted, targets & counted
    _arrays.check_background(background, preds.shape[-1])
    if not background:
        preds, targets = preds[..., 1:], targets[..., 1:]
    axes, shape = range(1, preds.ndim - 1), (len(preds), -1, preds.shape[-1])
    a, b = _distance.surface(preds, axes), _distance.surface(targets, axes)

    def distances(surface: Array) -> Array:
        squared = _distance.squared_distances(
            ~surface, axes, spacing, _arrays.floating()
        )
        return jnp.sqrt(jnp.where(jnp.isfinite(squared), squared, 0)).reshape(shape)

    return _Surfaces(a.reshape(shape), b.reshape(shape), distances(b), distances(a))


@jax.jit
def _order_statistic(values: Array, counted: Array, k: Array) -> Array:
    """[B, 1, C]: the k-th smallest, from 0, of the counted values [B, N, C] >= 0.

    The largest number that at most k of the values lie below, found bit by bit: floats
    that are not negative have the order of their bits. It is faster than a sort.
    """
    integer = {4: jnp.int32, 8: jnp.int64}[values.dtype.itemsize]
    bits = lax.bitcast_convert_type(values, integer)

    def add_bit(i: Array, known: Array) -> Array:
        trial = known | (jnp.ones((), integer) << (8 * values.dtype.itemsize - 2 - i))
        below = jnp.sum(counted & (bits < trial), 1, keepdims=True)
        return jnp.where(below <= k, trial, known)

    kth = lax.fori_loop(
        0, 8 * values.dtype.itemsize - 1, add_bit, jnp.zeros_like(bits[:, :1])
    )
    return lax.bitcast_convert_type(kth, values.dtype)


def _percentile(values: Array, counted: Array, percentile: float | Array) -> Array:
    """[B, C]: percentile of the counted values [B, N, C], linear between two of them.

    Without meaning where nothing is counted.
    """
    last = jnp.sum(counted, 1, keepdims=True) - 1
    rank = jnp.asarray(percentile, values.dtype) / 100 * last.astype(values.dtype)
    k = jnp.floor(rank).astype(last.dtype)
    low = _order_statistic(values, counted, k)
    high = _order_statistic(values, counted, jnp.minimum(k + 1, last))
    part = rank - k.astype(rank.dtype)
    return ((1 - part) * low + part * high)[:, 0]


def _mean_of_examples(values: Array, counts: Array) -> Ratio:
    """[C]: the sum over the examples that count, and how many these are."""
    return Ratio(
        total=jnp.sum(jnp.where(counts, values, 0), 0),
        count=_arrays.count(counts, (0,)),
    )


def hausdorff_distance(
    preds: Array,
    targets: Array,
    *,
    num_classes: int | None = None,
    percentile: float | Array = 95.0,
    where: Array | None = None,
    ignore: int | None = None,
    spacing: _distance.Spacing = None,
    background: bool = False,
) -> Ratio:
    """Hausdorff distance of predicted and true masks, or a percentile of it.

    The surface of a mask are its positions with a face to the outside or to the edge
    of the image. With A and B the surfaces of prediction and target in one example and
    class, and d(a, B) the Euclidean distance of a to the nearest position of B::

        max(percentile of d(a, B) over a in A, percentile of d(b, A) over b in B)

    Conventions: as MONAI's `compute_hausdorff_distance`; a percentile between two
    distances is linear in them, as NumPy's. Percentile 100 is the Hausdorff distance,
    the default is the "HD95" of medical papers. An example in which one of both masks
    is empty has no distance and does not count, so look at the `count` too: a model
    that predicts nothing is not punished (MONAI gives inf, or nan if both are empty).
    Masked positions are taken as outside the image.

    Args:
        preds: [B, *S, C] bool; or floating, of which the largest channel is the
            prediction; or integer labels [B, *S] with `num_classes`.
        targets: integer labels [B, *S], or bool [B, *S, C] if preds are bool. A label
            outside 0..C-1 is in no class.
        num_classes: C, if preds are labels.
        percentile: in [0, 100]. May be traced.
        where: bool, True where a position counts: [B, *S], [B] or any prefix, or
            with a channel axis; axes of length 1 broadcast.
        ignore: a label of targets; positions that have it count no more than masked.
        spacing: the distance of neighbours, > 0, one entry a spatial axis; all 1 by
            default. May be traced.
        background: False drops channel 0.

    Returns:
        `Ratio` [C] ([C-1] without background): the sum of the distances over the
        examples that count, and their number.

    Raises:
        ValueError: shapes or dtypes do not fit (both are printed), no channel is left,
            or there is no spatial axis.
        TypeError: `where` not bool.

    Example:
        >>> preds = jnp.array([[0, 1, 1, 0, 0, 0]])
        >>> targets = jnp.array([[0, 1, 1, 1, 1, 0]])
        >>> hausdorff = hw.metrics.hausdorff_distance
        >>> print(hausdorff(preds, targets, num_classes=2, percentile=100.0).value)
        [2.]
        >>> print(hausdorff(preds, targets, num_classes=2).value)
        [1.9]

        The surfaces are {1, 2} and {1, 4}, the distances {0, 1} and {0, 2}.

    References:
        Huttenlocher et al., "Comparing images using the Hausdorff distance", IEEE
        TPAMI 1993.
    """
    _checks.between("percentile", 0, 100, percentile)
    s = _surfaces(preds, targets, num_classes, where, ignore, spacing, background)
    values = jnp.maximum(
        _percentile(s.preds_to_targets, s.preds, percentile),
        _percentile(s.targets_to_preds, s.targets, percentile),
    )
    in_preds, in_targets = s.sizes
    return _mean_of_examples(values, (in_preds > 0) & (in_targets > 0))


def _tolerances(tolerance: float | Array, preds: Array, classes: int | None) -> Array:
    """[C] or [], with one entry a channel."""
    _checks.nonnegative("tolerance", tolerance, axes=True)
    tolerance = jnp.asarray(tolerance, _arrays.floating())
    channels = jnp.shape(preds)[-1] if classes is None else classes
    if tolerance.shape not in ((), (channels,)):
        raise ValueError(
            f"tolerance: expected a scalar or one entry a channel, shape ({channels},) "
            f"(background included), got {tolerance.shape}"
        )
    return jnp.broadcast_to(tolerance, (channels,))


def surface_dice(
    preds: Array,
    targets: Array,
    *,
    tolerance: float | Array,
    num_classes: int | None = None,
    where: Array | None = None,
    ignore: int | None = None,
    spacing: _distance.Spacing = None,
    background: bool = False,
) -> Ratio:
    """Surface Dice: the share of both surfaces that is near the other one.

    With surfaces A and B and distances d as in `hausdorff_distance`, in one example
    and class::

        (#{a in A: d(a, B) <= tolerance} + #{b in B: d(b, A) <= tolerance}) / (#A + #B)

    Conventions: as MONAI's `SurfaceDiceMetric` without subvoxels, which counts
    surface positions; the paper weighs them with the area of the surface. A distance
    that equals the tolerance but for rounding (1e-6 of it) is within. An example with
    both masks empty does not count; with one mask empty nothing is near, and it counts
    as 0.

    Args:
        preds, targets, num_classes, where, ignore, spacing, background: as in
            `hausdorff_distance`.
        tolerance: >= 0, in units of `spacing`: a float, or [C] with one entry a
            channel, background included. May be traced.

    Returns:
        `Ratio` [C] ([C-1] without background): the sum over the examples that count
        of values in [0, 1], and their number.

    Raises:
        ValueError: as `hausdorff_distance`; `tolerance` has another length.
        TypeError: as `hausdorff_distance`.

    Example:
        >>> preds = jnp.array([[0, 1, 1, 0, 0, 0]])
        >>> targets = jnp.array([[0, 1, 1, 1, 1, 0]])
        >>> print(hw.metrics.surface_dice(preds, targets, num_classes=2, tolerance=1.0))
        Ratio(total=Array([0.75], dtype=float32), count=Array([1.], dtype=float32))

        The surfaces are {1, 2} and {1, 4}; only 4 is further than 1 from the other.

    References:
        Nikolov et al., "Deep learning to achieve clinically applicable segmentation of
        head and neck anatomy for radiotherapy", 2018.
    """
    s = _surfaces(preds, targets, num_classes, where, ignore, spacing, background)
    limits = _tolerances(tolerance, preds, num_classes)
    limits = limits[-s.preds.shape[-1] :] * (1 + 1e-6)
    in_preds, in_targets = s.sizes
    reached = (in_preds > 0) & (in_targets > 0)

    def near(distances: Array, surface: Array) -> Array:
        within = distances <= jnp.broadcast_to(limits, distances.shape)
        return jnp.sum(within & surface, 1)

    near_both = near(s.preds_to_targets, s.preds) + near(s.targets_to_preds, s.targets)
    size = in_preds + in_targets
    values = jnp.where(reached, near_both, 0) / jnp.maximum(size, 1)
    return _mean_of_examples(values, size > 0)
