"""A mean over the heads, coordinate by coordinate, without the extremes."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gradients import _rows
from headwise.typing import Array
from headwise.typing import PyTree


class TrimmedMeanState(NamedTuple):
    """What survived of each head in the last step, for the log; it has no memory."""

    names: _types.Names
    weights: Array
    """[H]"""


def trimmed_mean(trim: int | str = 1) -> _types.Balancer:
    """Drops the smallest and the largest gradients of every coordinate; the mean.

    ::

        direction = 1 / (n - 2 t) Σ of g_(t+1) ... g_(n-t),   g_(1) <= ... <= g_(n)

    over the n heads that are there, with t = min(trim, (n - 1) // 2): something is
    always left. So up to `trim` heads may have gradients of any size. This is a mean,
    1 / n of the sum that equal weights give.

    A parameter array in which a head's gradient is 0 throughout is one that it does not
    reach: it does not count there. So a private array gets the gradient of its own head
    alone, whole.

    Args:
        trim: how many to drop at either end, >= 0; 0 is the mean. "median": as many as
            there can be: the middle one, or the mean of the middle two.

    Returns:
        A balancer that needs the gradients. `weights` are <kept, g> / <g, g>, with
        what is kept of a head already divided by n - 2 t. Of equal gradients the one of
        the first name counts as the smaller.

    Raises:
        ValueError: `trim` is neither an int >= 0 nor "median".

    Example:
        >>> balancer = hw.balancers.trimmed_mean(1)
        >>> rows = {"a": [1e9, 3.0], "b": [1.0, -1e9], "c": [2.0, 4.0]}
        >>> grads = {name: jnp.array(row) for name, row in rows.items()}
        >>> signals = hw.Signals(values=jnp.ones(3), grads=grads)
        >>> decision, _ = balancer.update(signals, balancer.init(list("abc")))
        >>> print(decision.direction)
        [2. 3.]

    References:
        Yin et al., "Byzantine-robust distributed learning: towards optimal statistical
        rates", ICML 2018, definitions 1 and 2.
    """
    if not isinstance(trim, str) or trim != "median":
        try:
            trim = _checks.nonnegative_int("trim", trim)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace(">= 0", ">= 0 or 'median'")) from None

    def init(names: Sequence[str], params: PyTree = None) -> TrimmedMeanState:
        del params
        names = _types.Names(names, "trimmed_mean")
        return TrimmedMeanState(names, jnp.zeros(len(names), jnp.float32))

    def update(
        signals: _types.Signals, state: TrimmedMeanState
    ) -> tuple[_types.Decision, TrimmedMeanState]:
        _signals.require("trimmed_mean", signals, "grads")
        _signals.check_heads("trimmed_mean", state, signals)
        assert signals.grads is not None
        present = _signals.usable(signals)
        grads = _rows.stacked(signals, present)
        largest = _rows.largest_of([jnp.abs(g) for g in jax.tree.leaves(grads)])
        unit = jnp.where(largest > 0, largest, 1.0)
        kept_sum = raw_sum = jnp.zeros_like(largest)
        leaves = []
        for g in jax.tree.leaves(grads):
            axes = tuple(range(1, g.ndim))
            reached = present & jnp.any(g != 0, axis=axes)
            kept = _kept(g, reached, trim)
            leaves.append(_products.summed(kept))
            # In units of a head's largest entry: no square leaves float32.
            g = g / _rows.column(unit.astype(g.dtype), g)
            kept = kept / _rows.column(unit.astype(g.dtype), g)
            kept_sum += jnp.sum(kept * g, axes)
            raw_sum += jnp.sum(g * g, axes)
        like = signals.grads[min(signals.grads)]
        leaves = [
            x.astype(jnp.result_type(g))
            for x, g in zip(leaves, jax.tree.leaves(like), strict=True)
        ]
        direction = jax.tree.unflatten(jax.tree.structure(like), leaves)
        weights = _numerics.safe_divide(kept_sum, raw_sum, 0.0).astype(jnp.float32)
        return _types.Decision(weights, direction), state._replace(weights=weights)

    return _types.Balancer(init, update, "grads")


def _kept(g: Array, reached: Array, trim: int | str) -> Array:
    """[H, *shape] what the mean takes from every head, divided by their number."""
    order = jnp.where(_rows.column(reached, g), g, jnp.inf)
    ranks = jnp.argsort(jnp.argsort(order, axis=0), axis=0)
    count = jnp.sum(reached)
    most = jnp.maximum(count - 1, 0) // 2
    cut = most if isinstance(trim, str) else jnp.minimum(trim, most)
    inside = (ranks >= cut) & (ranks < count - cut)
    share = 1.0 / jnp.maximum(count - 2 * cut, 1).astype(g.dtype)
    return jnp.where(inside, g * share, jnp.zeros_like(g))
