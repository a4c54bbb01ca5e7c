"""The sums of intersection and union that every region loss is made of."""

from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.losses import _softmax
from headwise.typing import Array


class Overlap(NamedTuple):
    """Sums over the positions that count: [B, C], or [C] over the batch too."""

    intersection: Array
    """sum of p * t, or of min(p, t): the true positives"""
    preds: Array
    """sum of p, or of p squared"""
    targets: Array
    """sum of t, or of t squared"""
    volume: Array
    """sum of t"""

    @property
    def union(self) -> Array:
        """Sum of p + t - p * t."""
        return self.preds + self.targets - self.intersection

    @property
    def false_positives(self) -> Array:
        """Sum of p * (1 - t)."""
        return self.preds - self.intersection

    @property
    def false_negatives(self) -> Array:
        """Sum of (1 - p) * t."""
        return self.targets - self.intersection


def overlap(
    inputs: _inputs.Inputs,
    *,
    squared: bool = False,
    soft_targets: bool = False,
    over_batch: bool = False,
) -> Overlap:
    """The sums, from labels in one pass where `Inputs.labels` has them."""
    _checks.boolean("squared", squared)
    _checks.boolean("soft_targets", soft_targets)
    _checks.boolean("over_batch", over_batch)
    given = inputs.labels()
    if given is not None:
        return _of_labels(given, squared, inputs.background, over_batch)
    arrays = inputs.arrays()
    p, t, axes = arrays.preds, arrays.targets, arrays.summed_axes(over_batch)
    volume = jnp.sum(t, axes)
    # (|p| + |t| - |p - t|) / 2; with squares that is p * t.
    common = jnp.minimum(p, t) if soft_targets and not squared else p * t
    return Overlap(
        intersection=jnp.sum(common, axes),
        preds=jnp.sum(p * p if squared else p, axes),
        targets=jnp.sum(t * t, axes) if squared else volume,
        volume=volume,
    )


def _of_labels(
    given: _inputs.Labels, squared: bool, background: bool, over_batch: bool
) -> Overlap:
    sums = _softmax.label_sums(*given)
    parts = [sums.intersection, sums.squares if squared else sums.preds, sums.volume]
    if over_batch:
        parts = [jnp.sum(x, 0) for x in parts]
    if not background:
        parts = [x[..., 1:] for x in parts]
    intersection, preds, volume = parts
    return Overlap(intersection, preds, volume, volume)


def distance(numerator: Array, denominator: Array, smooth: _options.Smooth) -> Array:
    """1 - (numerator + s_n) / (denominator + s_d); 0 where that is 0 / 0."""
    above, below = _options.smoothing(smooth, denominator.shape)
    return 1.0 - _numerics.safe_divide(numerator + above, denominator + below, 1.0)
