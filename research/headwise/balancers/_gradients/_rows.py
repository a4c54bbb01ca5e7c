"""Head gradients as arrays with a leading axis of heads, and buffers like them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _products
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


def zeros_like(balancer: str, heads: int, params: PyTree) -> PyTree:
    """[H, *shape] zeros for every parameter, at least float32, with its sharding."""
    if params is None:
        raise ValueError(
            f"{balancer}: expected params, got None: its state is shaped like them; "
            "call init(names, params)"
        )

    def leaf(x: Array) -> Array:
        x = x if hasattr(x, "dtype") else jnp.asarray(x)
        zeros = jnp.zeros_like(x, _numerics.accumulator(x))
        return jnp.stack([zeros] * heads)

    return jax.tree.map(leaf, params)


def check_like(balancer: str, buffers: PyTree, signals: _types.Signals) -> None:
    """Raises ValueError unless the gradients are shaped like the buffers."""
    assert signals.grads is not None
    kept = jax.tree.map(lambda x: jnp.shape(x)[1:], buffers)
    for name in sorted(signals.grads):
        got = jax.tree.map(jnp.shape, signals.grads[name])
        if got != kept:
            raise ValueError(
                f"{balancer}: expected signals.grads shaped like the params of init, "
                f"{kept}, got {got} for {name!r}"
            )


def stacked(signals: _types.Signals, present: Array) -> PyTree:
    """Gradients as [H, *shape], at least float32, with 0 for absent heads."""
    assert signals.grads is not None

    def leaf(*heads: Array) -> Array:
        rows = jnp.stack([jnp.asarray(g) for g in heads])
        rows = rows.astype(_numerics.accumulator(rows))
        return jnp.where(column(present, rows), rows, jnp.zeros_like(rows))

    return jax.tree.map(leaf, *(signals.grads[n] for n in sorted(signals.grads)))


def column(per_head: Array, rows: Array) -> Array:
    """[H] as [H, 1, ...], to go with rows."""
    return jnp.reshape(per_head, (-1,) + (1,) * (rows.ndim - 1))


def scaled(per_head: Array, tree: PyTree) -> PyTree:
    """Every head's rows times its number."""
    return jax.tree.map(lambda x: column(per_head, x).astype(x.dtype) * x, tree)


def combined(per_head: Array, tree: PyTree, signals: _types.Signals) -> PyTree:
    """Σ number * row over the heads, in the dtype of the gradients."""
    assert signals.grads is not None
    like = signals.grads[min(signals.grads)]
    return jax.tree.map(
        lambda x, g: _products.of_stack(per_head, x).astype(jnp.result_type(g)),
        tree,
        like,
    )


def gram(tree: PyTree) -> Array:
    """[H, H] inner products of the rows, over all parameters."""
    parts = [_products.products(list(x)) for x in jax.tree.leaves(tree)]
    return sum(parts[1:], parts[0])


def lengths(tree: PyTree) -> Array:
    """[H] norms of the rows; no square leaves the range of float32."""
    leaves = jax.tree.leaves(tree)
    largest = largest_of([jnp.abs(x) for x in leaves])
    safe = jnp.where(largest > 0, largest, 1.0)
    parts = [
        jnp.sum(jnp.square(x / column(safe, x)), axis=tuple(range(1, x.ndim)))
        for x in leaves
    ]
    return safe * jnp.sqrt(sum(parts[1:], parts[0]))


def largest_of(leaves: Sequence[Array]) -> Array:
    """[H] largest entry of every head."""
    parts = [jnp.max(x, axis=tuple(range(1, x.ndim)), initial=0.0) for x in leaves]
    return jnp.max(jnp.stack(parts), axis=0)


def averaged(present: Array, share: Array, new: PyTree, old: PyTree) -> PyTree:
    """Old + share (new - old) for the heads that are there; the others keep theirs."""

    def leaf(a: Array, b: Array) -> Array:
        step = column(jnp.where(present, share, 0.0), b).astype(b.dtype)
        return b + step * (a.astype(b.dtype) - b)

    return jax.tree.map(leaf, new, old)
