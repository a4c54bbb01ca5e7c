"""What metrics functions return, added up over batches that count unequally much.

Metrics of `hw.metrics` are sums and add up. A scalar is a mean, and adds up times what
it counts: `hw.Means` says how much that is; else it is the examples of the batch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _means
from headwise import _means_of_parts

_EXPECTED = "expected a metric of hw.metrics, or a scalar that is a mean"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Totals:
    """Sums of what one dict held, over the data seen so far."""

    totals: dict[str, Any]
    """Σ count * mean of the scalars"""
    counts: dict[str, Any]
    present: dict[str, Any]
    """Not 0 where there were data"""
    metrics: dict[str, Any]
    """Pytrees of sums, and `Totals` of dicts inside"""
    told: bool = dataclasses.field(metadata={"static": True})
    """Whether the counts came with the values (`hw.Means`)"""


def check(found: Any, count: int | None, path: str = "") -> None:
    """Raises unless all of it adds up; looks at types and shapes alone.

    Args:
        found: what a metrics function returned.
        count: how many examples the batch has, None if that cannot be said.
        path: of a dict inside.
    """
    if not isinstance(found, Mapping):
        raise TypeError(
            "metrics_fn: expected it to return {name: metric}, got "
            f"{_checks.kind(found)}"
        )
    counts = _means.tally_of(found).counts
    for name, x in found.items():
        where = f"metrics_fn: metric {path + str(name)!r}"
        if isinstance(x, Mapping):
            check(x, count, f"{path}{name}/")
        elif isinstance(x, str) or x is None:
            raise TypeError(f"{where}: {_EXPECTED}, got {_checks.kind(x)}")
        elif _is_leaf(x) and jnp.shape(x) != ():
            raise ValueError(
                f"{where}: {_EXPECTED}, got shape {jnp.shape(x)}; sums of classes go "
                "in an hw.metrics.Ratio(total, count)"
            )
        elif _is_leaf(x) and not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            raise TypeError(
                f"{where}: {_EXPECTED}, got {jnp.result_type(x)}; a number of what is "
                "there is a sum: the total of an hw.metrics.Ratio(total, count)"
            )
        elif _is_leaf(x) and count is None and name not in counts:
            raise ValueError(
                f"{where}: expected to know of how many entries it is the mean, where "
                "the arrays of a batch differ in length: hw.Means(values, counts=...)"
            )


def refuse_coupled(found: Mapping[str, Any]) -> None:
    """Raises ValueError where a value of parts says nothing about all data."""
    _means.tally_of(found).refuse_coupled("more than one batch")
    for x in found.values():
        if isinstance(x, Mapping):
            refuse_coupled(x)


@jax.jit
def start(found: Mapping[str, Any], count: Any) -> Any:
    """(sums, digits that they have lost) of a first batch.

    Args:
        found: what a metrics function returned.
        count: how many examples the batch has.
    """
    sums = _weighed(found, count)
    return sums, jax.tree.map(jnp.zeros_like, sums)


@jax.jit
def more(kept: Any, found: Mapping[str, Any], count: Any) -> Any:
    """`start` with another batch.

    Kahan's sum: what an addition rounds off is added to the next batch, so that small
    batches count also after very many.
    """
    sums, lost = kept
    new = jax.tree.map(jnp.subtract, _weighed(found, count), lost)
    after = jax.tree.map(jnp.add, sums, new)
    return after, jax.tree.map(_rounded_off, sums, new, after)


def _rounded_off(before: Any, new: Any, after: Any) -> Any:
    lost = (after - before) - new
    if not jnp.issubdtype(lost.dtype, jnp.floating):
        return lost
    return jnp.where(jnp.isfinite(lost), lost, 0)


def _weighed(found: Mapping[str, Any], count: Any) -> Totals:
    tally = _means.tally_of(found)
    scalars = {n: jnp.asarray(x) for n, x in found.items() if _is_leaf(x)}
    counts = {
        n: tally.counts[n] if n in tally.counts else jnp.float32(count) for n in scalars
    }
    present = {n: tally.present.get(n, counts[n]) for n in scalars}
    whole = _means.Tally(counts, present)
    metrics = {
        n: _weighed(x, count)
        if isinstance(x, Mapping)
        else jax.tree.map(jnp.asarray, x)
        for n, x in found.items()
        if n not in scalars
    }
    sums = _means_of_parts.weighed(scalars, whole)
    told = isinstance(found, _means.Means)
    return Totals(sums, counts, present, metrics, told)


def _is_leaf(x: Any) -> bool:
    return hasattr(x, "shape") or isinstance(x, bool | int | float | complex)


def joined(first: Any, second: Any) -> Any:
    """Sums of two parts of the data, which need not know the same names."""
    if isinstance(first, Totals) and isinstance(second, Totals):
        return Totals(
            _united(first.totals, second.totals),
            _united(first.counts, second.counts),
            _united(first.present, second.present),
            _united(first.metrics, second.metrics),
            first.told or second.told,
        )
    return jax.tree.map(np.add, first, second)


def _united(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    shared = {n: joined(first[n], second[n]) for n in first if n in second}
    return {**first, **second, **shared}


def finished(sums: Any) -> Any:
    """The metrics and means over all data, as they were returned.

    The value of a head that has no data anywhere is 0 and not `present`.
    """
    if not isinstance(sums, Totals):
        return sums
    metrics = {n: finished(x) for n, x in sums.metrics.items()}
    values = {
        n: np.divide(x, sums.counts[n], out=np.zeros_like(x), where=sums.counts[n] != 0)
        for n, x in sums.totals.items()
    }
    if not sums.told:
        return {**values, **metrics}
    here: dict[str, Any] = {
        n: np.asarray(x != 0, np.float32) for n, x in sums.present.items()
    }
    return _means.together(values, _means.Tally(dict(sums.counts), here), always=True)
