"""A metric as two sums, so that batches of any size add up to the right value."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _means
from headwise import _means_of_parts
from headwise import _trees
from headwise.typing import Array

Sums = TypeVar("Sums")


class Ratio(NamedTuple):
    """A numerator and a denominator, summed over the data seen so far.

    The mean of the values of batches is wrong if the batches count unequally much;
    the ratio of the sums is not. Both fields are plain sums, so batches, examples and
    devices combine by addition: `hw.metrics.add(a, b)`, `jnp.sum` over a leading axis
    of each field (after `jax.vmap`), `jax.lax.psum(ratio, "data")` (in
    `jax.shard_map`). `+` joins tuples: do not use it.

    Both fields are float32 (float64 if JAX runs with 64 bits). The metrics of this
    layer count in integers inside a call, exactly to 2³¹ - 1 positions, and round
    once; each addition of two results then rounds by at most 6e-8 of the sum.

    Example:
        >>> small = hw.metrics.Ratio(total=jnp.array(1.0), count=jnp.array(1.0))
        >>> large = hw.metrics.Ratio(total=jnp.array(0.0), count=jnp.array(3.0))
        >>> print(hw.metrics.add(small, large).value)  # not (1 + 0) / 2
        0.25
    """

    total: Array
    """the numerators, of any shape: [] or one entry a class, [C]"""
    count: Array  # type: ignore[assignment]  # a field, not the method of tuples
    """the denominators, of the same shape"""

    @property
    def value(self) -> Array:
        """Total / count, entry by entry; NaN where count is 0."""
        empty = self.count == 0
        quotient = self.total / jnp.where(empty, 1, self.count)
        return jnp.where(empty, jnp.nan, quotient)

    @property
    def mean(self) -> Array:
        """Mean of the values of all entries whose count is not 0: mIoU, for one.

        A scalar; NaN if there is no such entry.
        """
        seen = self.count != 0
        values = jnp.where(seen, self.value, 0)
        number = jnp.sum(seen)
        mean = jnp.sum(values) / jnp.maximum(number, 1)
        return jnp.where(number == 0, jnp.nan, mean)

    def named(self, names: Sequence[str]) -> dict[str, "Ratio"]:
        """One scalar `Ratio` a class, by name: what records and reports can hold.

        Args:
            names: of the entries, in their order; all different. Without background
                (`background=False`) those of the other classes.

        Returns:
            {name: `Ratio` of shape []}; they add up as this one does.

        Raises:
            ValueError: not as many names as entries, or one comes twice. TypeError: a
                name that is no str.

        Example:
            >>> iou = hw.metrics.Ratio(jnp.array([1.0, 3.0]), jnp.array([2.0, 4.0]))
            >>> for name, ratio in iou.named(["road", "sky"]).items():
            ...     print(name, ratio.value)
            road 0.5
            sky 0.75
        """
        _checks.head_names("names", names)  # distinct, each a str
        if jnp.shape(self.total) != (len(names),):
            raise ValueError(
                "names: expected one each for the entries "
                f"{jnp.shape(self.total)}, got {len(names)}: {list(names)}"
            )
        pairs = zip(names, self.total, self.count, strict=True)
        return {name: Ratio(total, count) for name, total, count in pairs}


def add(first: Sums, second: Sums) -> Sums:
    """The sums of two batches, for one metric or any pytree of metrics.

    Args:
        first: a `Ratio`, an `AngleHistogram`, or a dict (or other pytree) of these, or
            `hw.Means` with a count for each head.
        second: the same with the same structure.

    Returns:
        The metric over the data of both.

    Raises:
        ValueError: the structures differ; `hw.Means` without the count of a head, or of
            a value that is no mean over examples.

    Example:
        >>> a = {"iou": hw.metrics.Ratio(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0]))}
        >>> b = {"iou": hw.metrics.Ratio(jnp.array([2.0, 0.0]), jnp.array([2.0, 0.0]))}
        >>> seen = hw.metrics.add(a, b)["iou"]
        >>> print(seen.value, seen.mean)
        [0.75  nan] 0.75
    """
    structures = _trees.structure(first), _trees.structure(second)
    if structures[0] != structures[1]:
        raise ValueError(
            f"second: expected the structure of first, {structures[0]}, got "
            f"{structures[1]}"
        )
    return jax.tree.map(_added, first, second, is_leaf=_is_means)


def _is_means(x: Any) -> bool:
    return isinstance(x, _means.Means)


def _added(first: Any, second: Any) -> Any:
    if _is_means(first):
        return _means_of_parts.joined(first, second)
    first, second = _checks.array("first", first), _checks.array("second", second)
    if first.shape != second.shape:
        raise ValueError(
            f"second: expected the shape of first, {first.shape}, got {second.shape}"
        )
    return first + second
