"""ConFIG: a direction with equal, positive cosines to all gradients."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.balancers._gramian import _imtl_g
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences")
class MomentumState(NamedTuple):
    """Running averages of the gradients."""

    names: _types.Names
    momenta: dict[str, PyTree]
    """{name: pytree like the parameters}"""
    updates: Array
    """[H] int32, gradients averaged so far."""
    preferences: Array
    """[H], as given, or equal ones."""


def config(
    preferences: _named.Given = None,
    momentum: float | Array | None = None,
) -> _types.Balancer:
    """Conflict-free inverse gradients.

    With U the unit gradients as rows::

        d = U⁺ preferences, made a unit vector;   direction = (Σ_h <g_h, d>) d

    so that <g_h / |g_h|, d> is the same for all heads (or in the ratio of the
    preferences), and the length is the sum of the projections.

    Args:
        preferences: {name: relative cosine > 0}; None: equal.
        momentum: decay of averages of the gradients, 0.9 in the paper's M-ConFIG; the
            direction is made from the averages (bias corrected) then. All heads are
            averaged at every step; the paper visits one a step to save backward passes.
            The second moment of the direction is the optimiser's affair (`optax.adam`).
            None: of the gradients themselves.

    Returns:
        A balancer that needs the gramian, or with `momentum` the gradients (and `init`
        the parameters). Scale: a sum over heads. Weights may be negative. A head with a
        zero gradient has weight 0; opposite gradients have no such direction: 0.

    Raises:
        ValueError: a preference is not positive; `momentum` is outside [0, 1); `init`
            gets other names than `preferences` has, or lacks params with `momentum`.

    Example:
        >>> balancer = hw.balancers.config()
        >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])  # d = (1, 1) / √2, length 3 / √2
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))           # 3/2 / |g|
        [0.75 1.5 ]

    References:
        Liu et al., "ConFIG: towards conflict-free training of physics informed neural
        networks", ICLR 2025, equations 2 and 3, algorithm 1.
    """

    def solve(
        gram: Array, present: Array, wanted: Array, signals: _types.Signals
    ) -> Array:
        del present, signals
        unit, lengths, active = _from_gram.unit_rows(gram)
        a, norm = _imtl_g.equal_projections(unit, jnp.where(active, wanted, 0.0))
        precise = jax.lax.Precision.HIGHEST
        cosines = jnp.matmul(unit, a, precision=precise)
        largest = jnp.max(jnp.where(active, lengths, 0.0))
        scale = jnp.where(largest > 0, largest, 1.0)
        length = jnp.sum(jnp.where(active, (lengths / scale) * cosines, 0.0))
        factor = _numerics.safe_divide(length, norm * norm, 0.0)
        return jnp.where(active, factor * a * (scale / lengths), 0.0)

    if momentum is not None:
        _checks.below_one("momentum", momentum)
    _named.check("preferences", preferences, _checks.positive)
    plain = _from_gram.from_gram("config", solve, preferences)
    # Relations between heads: for a head that shares nothing they say nothing.
    plain = plain._replace(alone=None)
    if momentum is None:
        return plain

    def init(names: Sequence[str], params: PyTree = None) -> MomentumState:
        if params is None:
            raise ValueError("config: expected params in init with momentum, got None")
        inner = plain.init(names, params)
        names = _types.Names(names, "config")

        def zeros(p: Array) -> Array:
            p = p if hasattr(p, "dtype") else jnp.asarray(p)
            return jnp.zeros_like(p, _numerics.accumulator(p))  # with its sharding

        return MomentumState(
            names,
            {name: jax.tree.map(zeros, params) for name in names},
            jnp.zeros(len(names), jnp.int32),
            inner.preferences,
        )

    def update(
        signals: _types.Signals, state: MomentumState
    ) -> tuple[_types.Decision, MomentumState]:
        _signals.require("config", signals, "grads")
        _signals.check_heads("config", state, signals)
        assert signals.grads is not None
        names = state.names
        present = _signals.presence(signals)
        updates = _masked.counted_on(state.updates, present)

        grads = signals.grads

        def average(h: int) -> PyTree:
            def one(m: Array, g: Array) -> Array:
                moved = momentum * m + (1 - momentum) * jnp.asarray(g, m.dtype)
                return jnp.where(present[h], moved, m)

            return jax.tree.map(one, state.momenta[names[h]], grads[names[h]])

        momenta = {name: average(h) for h, name in enumerate(names)}
        known = 1.0 - jnp.asarray(momentum, jnp.float32) ** updates.astype(jnp.float32)
        rows = [jax.tree.leaves(momenta[name]) for name in names]
        gram = jnp.asarray(
            sum(_products.products(leaf) for leaf in zip(*rows, strict=True))
        )
        known = jnp.where(known > 0, known, 1.0)
        gram = (gram / known[:, None]) / known[None, :]
        shown = signals._replace(gram=gram, present=present)
        inner = _from_gram.GramState(names, known, state.preferences)
        weights = plain.update(shown, inner)[0].weights
        factors = weights / known

        def total(like: Array, *leaves: Array) -> Array:
            parts = [f * leaf for f, leaf in zip(factors, leaves, strict=True)]
            return jnp.asarray(sum(parts)).astype(like.dtype)

        like = grads[names[0]]
        direction = jax.tree.map(total, like, *(momenta[name] for name in names))
        new = state._replace(momenta=momenta, updates=updates)
        return _types.Decision(weights, direction), new

    return _types.Balancer(init, update, "grads")
