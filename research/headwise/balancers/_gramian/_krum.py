"""Krum: the gradients that lie closest to the others."""

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def krum(faulty: int, selected: int = 1) -> _types.Balancer:
    """The mean of the gradients that have the closest neighbours.

    The score of a head is the sum of the squared distances to its H - faulty - 2
    nearest others; the `selected` heads of least score get weight 1 / selected each.
    Meant for gradients that may be corrupt, not for balancing.

    Args:
        faulty: how many heads may be corrupt, >= 0.
        selected: how many are averaged, >= 1; all that are there if they are fewer.

    Returns:
        A balancer that needs the gramian. The weights sum to 1. With fewer present
        heads than faulty + 3 the nearest one counts; ties go to the first name.

    Raises:
        ValueError: `faulty` < 0 or `selected` < 1.

    Example:
        >>> balancer = hw.balancers.krum(faulty=1)
        >>> rows = jnp.array([[0.0], [1.0], [3.0], [100.0]])   # 1 is nearest to another
        >>> signals = hw.balancers.Signals(values=jnp.ones(4), gram=rows @ rows.T)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b", "c", "d"]))
        >>> print(decision.weights)
        [1. 0. 0. 0.]

    References:
        Blanchard et al., "Machine learning with adversaries: Byzantine tolerant
        gradient descent", NeurIPS 2017, section 4.
    """
    faulty = _checks.nonnegative_int("faulty", faulty)
    selected = _checks.positive_int("selected", selected)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del preferences, signals
        heads = gram.shape[0]
        squared = jnp.diagonal(gram)
        # In this order: exact where two heads are equal.
        distance = (squared[:, None] - gram) + (squared[None, :] - gram)
        others = present[:, None] & present[None, :] & ~jnp.eye(heads, dtype=bool)
        ordered = jnp.sort(jnp.where(others, jnp.maximum(distance, 0.0), jnp.inf), 1)
        count = jnp.sum(present)
        near = jnp.clip(count - faulty - 2, jnp.minimum(1, count - 1), heads)
        used = (jnp.arange(heads) < near)[None, :]
        score = jnp.sum(jnp.where(used & jnp.isfinite(ordered), ordered, 0.0), axis=1)
        rank = jnp.argsort(jnp.argsort(jnp.where(present, score, jnp.inf)))
        taken = jnp.minimum(selected, jnp.maximum(count, 1))
        return jnp.where(rank < taken, 1.0 / taken.astype(gram.dtype), 0.0)

    return _from_gram.from_gram("krum", solve)
