"""GradDrop: at every coordinate one sign is kept, drawn by its purity."""

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
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("leak")
class GradDropState(NamedTuple):
    """The leak of each head."""

    names: _types.Names
    leak: Array
    """[H] in [0, 1]"""


def graddrop(leak: _named.Given = None) -> _types.Balancer:
    """Gradient sign dropout: gradients of the sign that loses the draw are dropped.

    At every coordinate, with u uniform in [0, 1) drawn there::

        purity P = (1 + Σ_h g_h / Σ_h |g_h|) / 2
        mask_h = [g_h > 0][u < P] + [g_h < 0][u >= P]
        direction = Σ_h (leak_h + (1 - leak_h) mask_h) g_h

    Where one head alone has a gradient (its private parameters) all of it is kept.
    This acts on the parameters' gradients; the paper also has a form on features.

    Args:
        leak: {name: part of the gradient that is never dropped, in [0, 1]}, one for
            every head; None means 0.

    Returns:
        A balancer that needs the gradients and a key. The direction is a sum over
        heads; `weights` says how much of each head's gradient survived,
        <kept, g> / <g, g>.

    Raises:
        ValueError: a leak is outside [0, 1]; `init` gets other names; the key is
            missing.

    Example:
        >>> balancer = hw.balancers.graddrop()
        >>> signals = hw.balancers.Signals(
        ...     values=jnp.ones(2),
        ...     grads={"a": jnp.array([2.0, 1.0]), "b": jnp.array([1.0, 0.0])},
        ...     key=jax.random.key(0),
        ... )
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.direction, decision.weights)  # no conflict: nothing dropped
        [3. 1.] [1. 1.]

    References:
        Chen et al., "Just pick a sign: optimizing deep multitask models with gradient
        sign dropout", NeurIPS 2020, algorithm 1.
    """
    _named.check("leak", leak, _checks.fraction)

    def init(names: Sequence[str], params: PyTree = None) -> GradDropState:
        del params
        names = _types.Names(names, "graddrop")
        return GradDropState(names, _named.row("leak", leak, names))

    def update(
        signals: _types.Signals, state: GradDropState
    ) -> tuple[_types.Decision, GradDropState]:
        _signals.require("graddrop", signals, "grads", "key")
        _signals.check_heads("graddrop", state, signals)
        assert signals.grads is not None
        assert signals.key is not None
        names = state.names
        present = _signals.presence(signals)
        structure = jax.tree.structure(signals.grads[names[0]])
        heads = [jax.tree.leaves(signals.grads[name]) for name in names]
        none = jnp.zeros(len(names), jnp.float32)
        kept_sum, raw_sum, leaves = none, none, []
        for i, rows in enumerate(zip(*heads, strict=True)):
            key = jax.random.fold_in(signals.key, i)
            g = jnp.stack([jnp.asarray(row) for row in rows])
            shape = (-1,) + (1,) * (g.ndim - 1)
            g = jnp.where(present.reshape(shape), g, jnp.zeros_like(g))
            kept = _drop(g, state.leak.reshape(shape).astype(g.dtype), key)
            leaves.append(_products.summed(kept))
            axes = tuple(range(1, g.ndim))
            dtype = _numerics.accumulator(g)
            kept, g = kept.astype(dtype), g.astype(dtype)
            kept_sum += jnp.sum(kept * g, axes)
            raw_sum += jnp.sum(g * g, axes)
        weights = _numerics.safe_divide(kept_sum, raw_sum, 1.0)
        direction = jax.tree.unflatten(structure, leaves)
        decision = _types.Decision(_masked.zero_absent(weights, present), direction)
        return decision, state

    return _types.Balancer(init, update, "grads")


def _drop(g: Array, leak: Array, key: Array) -> Array:
    """[H, *shape] with the losing sign of every coordinate removed."""
    dtype = _numerics.accumulator(g)
    wide = g.astype(dtype)
    # Relative to the largest, so that no sum leaves the range of float32.
    largest = _products.largest(jnp.abs(wide))[None]
    unit = _numerics.safe_divide(wide, jnp.broadcast_to(largest, wide.shape), 0.0)
    total, size = _products.summed(unit), _products.summed(jnp.abs(unit))
    purity = 0.5 * (1.0 + _numerics.safe_divide(total, size, 0.0))
    # Along one axis: the same numbers, and loops of many axes compile for long.
    draws = jax.random.uniform(key, (purity.size,), dtype).reshape(purity.shape)
    up = draws < purity
    up = jnp.broadcast_to(up[None], g.shape)
    mask = jnp.where(up, g > 0, g < 0).astype(g.dtype)
    leak = jnp.broadcast_to(leak, g.shape)
    return (leak + (1 - leak) * mask) * g
