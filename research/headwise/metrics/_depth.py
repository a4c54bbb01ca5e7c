"""Errors of depth maps as sums over a stream."""

from typing import NamedTuple

import jax.numpy as jnp

from headwise.metrics import _arrays
from headwise.metrics import _ratio
from headwise.typing import Array


class DepthErrors(NamedTuple):
    """Means over all positions with a known depth, each a scalar `Ratio`.

    Made by `hw.metrics.depth_errors`; `hw.metrics.add` joins batches.
    """

    absolute: _ratio.Ratio
    """|p - t|"""
    relative: _ratio.Ratio
    """|p - t| / t"""
    squared: _ratio.Ratio
    """(p - t)²"""
    within_1: _ratio.Ratio
    """max(p / t, t / p) < 1.25: the share, larger is better"""
    within_2: _ratio.Ratio
    """the same with 1.25²"""
    within_3: _ratio.Ratio
    """the same with 1.25³"""

    @property
    def rmse(self) -> Array:
        """Root of the mean squared error over all positions.

        The Eigen et al. evaluation takes it over all positions, as here; some code
        averages the roots of images.
        """
        return jnp.sqrt(self.squared.value)

    @property
    def scalars(self) -> dict[str, Array]:
        """What is published of depth, by name: what a record holds of this metric.

        `absolute`, `relative`, `rmse`, `within_1`, `within_2`, `within_3`.
        """
        fields = self._asdict()
        del fields["squared"]
        values = {name: ratio.value for name, ratio in fields.items()}
        return values | {"rmse": self.rmse}


def depth_errors(
    preds: Array, targets: Array, *, where: Array | None = None
) -> DepthErrors:
    """Absolute, relative and squared error of depth, and shares within factors.

    Every position counts the same, whatever image it is in, so images with more known
    depth weigh more. A target depth of 0 (or less, or NaN) means missing.

    Args:
        preds: [B, *S] floating (an axis of channels counts as one more), depth.
        targets: of the same shape.
        where: bool, True where a position counts: [B], [B, *S] or any prefix; axes
            of length 1 broadcast.

    Returns:
        `DepthErrors` of scalar ratios; `.value` is NaN if nothing counts. A
        prediction of 0 or less is within no factor. A NaN prediction that counts
        makes the errors NaN and is within no factor.

    Raises:
        ValueError: shapes differ (both are printed) or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p, t = jnp.array([[1.0, 5.0, 9.0]]), jnp.array([[1.0, 4.0, 0.0]])
        >>> errors = hw.metrics.depth_errors(p, t)  # the last depth is missing
        >>> print(errors.absolute.value, errors.relative.value, errors.within_1.value)
        0.5 0.125 0.5

    References:
        Eigen, Puhrsch and Fergus, "Depth map prediction from a single image using a
        multi-scale deep network", NeurIPS 2014.
    """
    preds, targets = _arrays.both(preds, targets)
    _arrays.check_floating(preds, 1, "[B, *S]")
    _arrays.check_same(preds, targets)
    dtype = _arrays.floating()
    known = _arrays.valid(where, preds.shape) & (targets > 0)
    p = jnp.where(known, preds, 1).astype(dtype)
    t = jnp.where(known, targets, 1).astype(dtype)
    error, count = jnp.abs(p - t), _arrays.count(known)

    def within(factor: float) -> _ratio.Ratio:
        close = (p < factor * t) & (t < factor * p) & known
        return _ratio.Ratio(_arrays.count(close), count)

    return DepthErrors(
        absolute=_ratio.Ratio(_arrays.total(error), count),
        relative=_ratio.Ratio(_arrays.total(error / t), count),
        squared=_ratio.Ratio(_arrays.total(error * error), count),
        within_1=within(1.25),
        within_2=within(1.25**2),
        within_3=within(1.25**3),
    )
