"""The three sums that every region loss is made of, and what may vary in them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.losses import _arrays
from headwise.losses import _softmax
from headwise.typing import Array

Smooth = float | Array | tuple[float | Array, float | Array]


class Overlap(NamedTuple):
    """Sums over the positions that count: [B, C], or [C] over the batch too."""

    both: Array
    """sum of p * t, or of min(p, t): true positives"""
    preds: Array
    """sum of p, or of p squared"""
    targets: Array
    """sum of t, or of t squared"""
    volume: Array
    """sum of t"""

    @property
    def false_positives(self) -> Array:
        """Sum of p * (1 - t)."""
        return self.preds - self.both

    @property
    def false_negatives(self) -> Array:
        """Sum of (1 - p) * t."""
        return self.targets - self.both


def overlap(
    preds: Array,
    targets: Array,
    where: Array | None,
    *,
    ignore: int | None = None,
    activation: _arrays.Activation = None,
    squared: bool = False,
    soft_targets: bool = False,
    background: bool = True,
    over_batch: bool = False,
) -> Overlap:
    """Checks the arguments that the region losses share and takes the sums."""
    if activation is jax.nn.softmax:
        labels = _softmax.labels_of(preds, targets, where, ignore)
        if labels is not None:
            _arrays.check_background(preds, background)
            return _of_labels(preds, labels, squared, background, over_batch)
    p, t, _ = _arrays.prepare(preds, targets, where, ignore, activation, background)
    axes = tuple(range(0 if over_batch else 1, p.ndim - 1))
    volume = jnp.sum(t, axes)
    # (|p| + |t| - |p - t|) / 2; with squares that is p * t.
    both = jnp.minimum(p, t) if soft_targets and not squared else p * t
    return Overlap(
        both=jnp.sum(both, axes),
        preds=jnp.sum(p * p if squared else p, axes),
        targets=jnp.sum(t * t, axes) if squared else volume,
        volume=volume,
    )


def _of_labels(
    logits: Array, labels: Array, squared: bool, background: bool, over_batch: bool
) -> Overlap:
    sums = _softmax.label_sums(logits, labels)
    found = [sums.both, sums.squares if squared else sums.preds, sums.volume]
    if over_batch:
        found = [jnp.sum(x, 0) for x in found]
    if not background:
        found = [x[..., 1:] for x in found]
    both, preds, volume = found
    return Overlap(both, preds, volume, volume)


def smoothing(smooth: Smooth) -> tuple[float | Array, float | Array]:
    """What is added to the numerator and to the denominator."""
    if isinstance(smooth, tuple):
        if len(smooth) != 2:
            raise ValueError(
                "smooth: expected a float or (numerator, denominator), got "
                f"{len(smooth)} entries"
            )
        return smooth
    return smooth, smooth


def distance(numerator: Array, denominator: Array, smooth: Smooth) -> Array:
    """1 - (numerator + s_n) / (denominator + s_d); 0 where that is 0 / 0."""
    above, below = smoothing(smooth)
    return 1.0 - _numerics.safe_divide(numerator + above, denominator + below, 1.0)
