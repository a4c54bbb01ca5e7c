"""Angles between predicted and true surface normals: a histogram that adds up."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise.metrics import _arrays
from headwise.metrics import _ratio
from headwise.typing import Array

_PER_DEGREE = 20  # bins; 11.25, 22.5 and 30 degrees are edges
_BINS = 180 * _PER_DEGREE


def _ranked(bins: Array, upto: Array, rank: Array) -> Array:
    """About the angle with so many below it, from its bin and its place therein."""
    index = jnp.minimum(jnp.sum(upto <= rank), _BINS - 1)
    inside = bins[index]
    before = upto[index] - inside
    part = (rank - before + 0.5) / jnp.where(inside == 0, 1, inside)
    return (index + jnp.clip(part, 0, 1)) / _PER_DEGREE


class AngleHistogram(NamedTuple):
    """Angles in degrees over the data seen so far: their sum, and bins of 0.05.

    Made by `hw.metrics.normal_angles`; both fields are sums, so `hw.metrics.add`
    joins batches. A median cannot be had from batches; here it comes from the bins.
    """

    degrees: _ratio.Ratio
    """sum and number of the angles, scalars"""
    bins: Array
    """[3600] numbers of angles in [0, 0.05), [0.05, 0.1), ...; 180 is in the last"""

    @property
    def mean(self) -> Array:
        """Mean angle; NaN if there is none."""
        return self.degrees.value

    @property
    def median(self) -> Array:
        """Median angle, off by less than the width of a bin, 0.05 degrees.

        The mean of the two in the middle if their number is even. Inside its bin the
        angles are taken to lie evenly. NaN if there is none.
        """
        upto = jnp.cumsum(self.bins)
        last = upto[-1] - 1
        low = _ranked(self.bins, upto, jnp.floor(last / 2))
        high = _ranked(self.bins, upto, jnp.ceil(last / 2))
        return jnp.where(last < 0, jnp.nan, (low + high) / 2)

    def within(self, degrees: float | Array) -> Array:
        """Share of the angles below so many degrees; NaN if there is none.

        Exact at multiples of 0.05, such as 11.25, 22.5 and 30; interpolated between.
        """
        upto = jnp.concatenate([jnp.zeros_like(self.bins[:1]), jnp.cumsum(self.bins)])
        edges = jnp.arange(_BINS + 1, dtype=upto.dtype)
        below = jnp.interp(jnp.asarray(degrees, upto.dtype) * _PER_DEGREE, edges, upto)
        seen = upto[-1]
        share = below / jnp.where(seen == 0, 1, seen)
        return jnp.where(seen == 0, jnp.nan, share)

    @property
    def scalars(self) -> dict[str, Array]:
        """What is published of normals, by name: what a record holds of this metric.

        `mean`, `median`, `within_11.25`, `within_22.5`, `within_30`.
        """
        within = {f"within_{d:g}": self.within(d) for d in (11.25, 22.5, 30.0)}
        return {"mean": self.mean, "median": self.median} | within


def _unit(vectors: Array) -> Array:
    """Vectors of length 1; the zero vector stays."""
    length = jnp.sqrt(jnp.sum(vectors * vectors, -1, keepdims=True))
    return vectors / jnp.where(length == 0, 1, length)


def _angles(p: Array, t: Array) -> Array:
    """Degrees in [0, 180] between unit vectors.

    The arc cosine in float32 loses angles below 0.02 degrees; this form does not.
    """
    apart = jnp.sqrt(jnp.sum((p - t) ** 2, -1))
    along = jnp.sqrt(jnp.sum((p + t) ** 2, -1))
    return 2 * jnp.rad2deg(jnp.arctan2(apart, along))


def _histogram(known: Array, place: Array) -> Array:
    """[bins] integers, of one example: a batch may lie on several devices."""
    return jax.ops.segment_sum(known.astype(int).ravel(), place.ravel(), _BINS)


def normal_angles(
    preds: Array, targets: Array, *, where: Array | None = None
) -> AngleHistogram:
    """Angles between vectors such as surface normals: mean, median and shares.

    Every position counts the same, whatever image it is in. A target that is the zero
    vector says that no normal is known there, and does not count.

    Args:
        preds: [B, *S, D] floating, any length; D = 3 for normals. The zero vector
            counts as 90 degrees off.
        targets: of the same shape.
        where: bool, True where a position counts: [B], [B, *S] or any prefix; axes
            of length 1 broadcast.

    Returns:
        `AngleHistogram` with `.mean`, `.median` and `.within(degrees)`. A NaN
        prediction that counts makes the mean NaN, and is in the last bin.

    Raises:
        ValueError: shapes differ (both are printed) or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p = jnp.array([[[0.0, 0.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.0, 1.0]]])
        >>> t = jnp.array([[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
        >>> angles = hw.metrics.normal_angles(p, t)  # 0, 90 and 45 degrees
        >>> print(f"{angles.mean:.1f} {angles.median:.1f} {angles.within(30.0):.3f}")
        45.0 45.0 0.333

    References:
        Fouhey, Gupta and Hebert, "Data-driven 3D primitives for single image
        understanding", ICCV 2013, for the measures.
    """
    preds, targets = _arrays.both(preds, targets)
    _arrays.check_floating(preds, 2, "[B, *S, D]")
    _arrays.check_same(preds, targets)
    known = _arrays.valid(where, preds.shape[:-1]) & jnp.any(targets != 0, -1)
    dtype = _arrays.floating()
    p, t = (
        _unit(jnp.where(known[..., None], x, 0).astype(dtype)) for x in (preds, targets)
    )
    angles = jnp.where(known, _angles(p, t), 0)
    place = jnp.where(jnp.isnan(angles), _BINS, jnp.floor(angles * _PER_DEGREE))
    place = jnp.minimum(place.astype(int), _BINS - 1)
    bins = jnp.sum(jax.vmap(_histogram)(known, place), 0)
    return AngleHistogram(
        degrees=_ratio.Ratio(_arrays.total(angles), _arrays.count(known)),
        bins=bins.astype(dtype),
    )
