"""GradVac: gradients are turned towards the similarity that is usual for them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise import _trees
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._gramian import _surgery
from headwise.typing import Array
from headwise.typing import PyTree


class GradVacState(NamedTuple):
    """The similarities that are usual so far."""

    names: _types.Names
    similarity: Array
    """[H, H, G] averages of cosines, one matrix a group of parameters; 0 at first."""


def gradvac(beta: float | Array = 0.01, groups: str = "whole") -> _types.Balancer:
    """Gradient vaccine: conflict is what lies below the usual cosine of two heads.

    For every head i, over the others j in random order, with ρ the cosine of p_i and
    g_j (p_i = g_i at first) and its running average ρ̂_ij::

        if ρ < ρ̂:  p_i = p_i + |p_i| (ρ̂ √(1 - ρ²) - ρ √(1 - ρ̂²)) / (|g_j| √(1 - ρ̂²)) g_j
        ρ̂_ij = (1 - β) ρ̂_ij + β ρ
        direction = Σ_i p_i

    After an edit the cosine is ρ̂. With ρ̂ = 0, as in the first step, this is PCGrad.

    Args:
        beta: of the average, in [0, 1]: 0.01 in the paper, 0.5 in LibMTL and TorchJD.
        groups: parameters that are treated together. "whole": all (needs the gramian);
            "layer": the parameters of one module; "leaf": every parameter by itself
            (these need the gradients, and `init` the parameters).

    Returns:
        A balancer that needs a key and the gramian or the gradients. Scale: a sum over
        heads. For groups, `weights` is the mean over groups.

    Raises:
        ValueError: beta is outside [0, 1]; unknown `groups`; `init` lacks params for
            groups.

    Example:
        >>> balancer = hw.balancers.gradvac()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(jnp.ones(2), gram, key=jax.random.key(0))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))        # as PCGrad at first
        [2.2222 1.5789]

    References:
        Wang et al., "Gradient vaccine: investigating and improving multi-task
        optimization in massively multilingual models", ICLR 2021, equations 2 and 3.
    """
    _checks.fraction("beta", beta)
    _checks.choice("groups", ["whole", "layer", "leaf"], groups)

    def edit(cosine: Array, length: Array, usual: Array) -> tuple[Array, Array]:
        across = jnp.sqrt(jnp.maximum(1 - usual * usual, 1e-12))
        sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, 0.0))
        added = length * (usual * sine - cosine * across) / across
        average = (1 - beta) * usual + beta * cosine
        return jnp.where(cosine < usual, added, 0.0), average

    def operate(
        gram: Array, present: Array, key: Array, usual: Array
    ) -> tuple[Array, Array]:
        memory = usual.astype(gram.dtype)
        weights, seen = _surgery.operate(gram, present, key, edit, memory)
        return jnp.where(present, weights, 0.0), seen.astype(usual.dtype)

    def group_of_leaf(tree: PyTree) -> list[int]:
        if groups == "leaf":
            return list(range(len(jax.tree.leaves(tree))))
        modules = _trees.modules(tree, None)
        order = {name: i for i, name in enumerate(dict.fromkeys(modules))}
        return [order[name] for name in modules]

    def init(names: Sequence[str], params: PyTree = None) -> GradVacState:
        names = _types.Names(names, "gradvac")
        heads, count = len(names), 1
        if groups != "whole":
            if params is None:
                raise ValueError(
                    f"gradvac: expected params in init for groups={groups!r}, got None"
                )
            count = max(group_of_leaf(params)) + 1
        return GradVacState(names, jnp.zeros((heads, heads, count), jnp.float32))

    def update(
        signals: _types.Signals, state: GradVacState
    ) -> tuple[_types.Decision, GradVacState]:
        needed = "gram" if groups == "whole" else "grads"
        _signals.require("gradvac", signals, needed, "key")
        _signals.check_heads("gradvac", state, signals)
        assert signals.key is not None
        present = _signals.presence(signals)
        if groups == "whole":
            gram = _signals.present_gram(signals, present)
            usual = state.similarity[..., 0]
            weights, seen = operate(gram, present, signals.key, usual)
            new = state._replace(similarity=seen[..., None])
            return _types.Decision(weights), new
        assert signals.grads is not None
        names = state.names
        first = signals.grads[names[0]]
        leaves = [jax.tree.leaves(signals.grads[name]) for name in names]
        rows = [
            [
                jnp.where(present[h], g, jnp.zeros_like(g))
                for h, g in enumerate(map(jnp.asarray, heads))
            ]
            for heads in zip(*leaves, strict=True)
        ]
        of_leaf = group_of_leaf(first)
        grams = jnp.stack(
            [
                jnp.asarray(
                    sum(
                        _products.products(row)
                        for row, group in zip(rows, of_leaf, strict=True)
                        if group == g
                    )
                )
                for g in range(state.similarity.shape[-1])
            ]
        )
        keys = jax.random.split(signals.key, grams.shape[0])
        several = jax.vmap(operate, in_axes=(0, None, 0, -1), out_axes=(0, -1))
        weights, seen = several(grams, present, keys, state.similarity)
        direction = [
            _sum(weights[group], row) for row, group in zip(rows, of_leaf, strict=True)
        ]
        shown = _masked.zero_absent(jnp.mean(weights, axis=0), present)
        tree = jax.tree.unflatten(jax.tree.structure(first), direction)
        return _types.Decision(shown, tree), state._replace(similarity=seen)

    return _types.Balancer(init, update, "gramian" if groups == "whole" else "grads")


def _sum(weights: Array, row: Sequence[Array]) -> Array:
    """Σ weight * gradient, in at least float32; rows of absent heads are 0."""
    dtype = _numerics.accumulator(*row)
    parts = [weights[h].astype(dtype) * g.astype(dtype) for h, g in enumerate(row)]
    return sum(parts[1:], parts[0]).astype(jnp.result_type(*row))
