"""LDC: weights that make the weighted values of all heads alike."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import optax

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _optimizer
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class LdcState(NamedTuple):
    """Logits of the weights and the state of their own optimiser."""

    names: _types.Names
    logits: Array
    """[H]"""
    optimizer: Any


def ldc(
    penalty: float = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    pairs: str = "all",
) -> _types.Balancer:
    """Loss discrepancy control: one loop for a bilevel problem.

    ::

        w = softmax(logits),   D = c Σ_pairs |w_i value_i - w_j value_j|
        total = Σ w_h value_h + penalty D,   weight_h = ∂ total / ∂ value_h
        logits go down D

    so weight_h = w_h (1 + penalty ∂D/∂(w_h value_h)). w sums to 1; the weights sum to
    between 1 - 2 penalty and 1 + 2 penalty, and none is negative up to a penalty of
    1 / 2. At rest all weighted values are equal: w_h is proportional to 1 / value_h. A
    head whose value is not positive has an equal part of the weights, 1 / H, and keeps
    its logit. Logits stay within ±14.

    The paper sums over neighbours in the order of the heads, which makes that order
    matter: `pairs="chain"`, in sorted order of names and with c = 1. By default it is
    all pairs of heads, with c = 2 / H so that D has the same size.

    Args:
        penalty: >= 0; the paper's λ, 0.1 in its Cityscapes script. 0 gives weights w.
        optimizer: of the logits; None means `optax.adam(1e-2)`.
        pairs: "all" or "chain".

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: penalty < 0; unknown pairs.
        TypeError: `optimizer` is not one of optax.

    Example:
        >>> balancer = hw.balancers.ldc(0.25, optax.sgd(1.0))
        >>> state = balancer.init(["a", "b"])
        >>> signals = hw.Signals(values=jnp.array([1.0, 3.0]))
        >>> decision, state = balancer.update(signals, state)
        >>> print(decision.weights, state.logits)  # 1/2 (1 ∓ 1/4); D = 3 w_b - w_a
        [0.375 0.625] [ 1. -1.]

    References:
        Xiao et al., "LDC-MTL: balancing multi-task learning through scalable loss
        discrepancy control", 2025 (arXiv 2502.08585). There a small network makes the
        logits from features; here they are free numbers.
    """
    _checks.nonnegative("penalty", penalty)
    _checks.choice("pairs", ["all", "chain"], pairs)
    pull_of_pairs = _all_pairs if pairs == "all" else _chain
    optimizer = _optimizer.given_or(optimizer, optax.adam(1e-2))

    def init(names: Sequence[str], params: PyTree = None) -> LdcState:
        del params
        names = _types.Names(names, "ldc")
        logits = jnp.zeros(len(names), jnp.float32)
        return LdcState(names, logits, optimizer.init(logits))

    def update(
        signals: _types.Signals, state: LdcState
    ) -> tuple[_types.Decision, LdcState]:
        values, present = _signals.read("ldc", state, signals)
        logits = state.logits
        counted = present & (values > 0)
        w = _masked.softmax(logits, counted)
        # ∂D / ∂(w value): both derivatives that are wanted follow from it.
        pull = pull_of_pairs(w * values, counted)
        weights = w * (1.0 + penalty * pull)
        slope = w * (pull * values - jnp.sum(w * pull * values))
        logits, moved = _optimizer.descend(
            optimizer, slope, logits, state.optimizer, counted
        )
        logits = jnp.clip(logits, -_optimizer.LIMIT, _optimizer.LIMIT)
        decision = _types.Decision(_masked.beside(weights, counted, present))
        return decision, LdcState(state.names, logits, moved)

    return _types.Balancer(init, update)


def _all_pairs(x: Array, present: Array) -> Array:
    """Derivatives of 2 / H Σ |x_i - x_j| over all pairs of heads that are there."""
    both = present[:, None] & present[None, :]
    signs = jnp.where(both, _sign_of_difference(x[:, None], x[None, :]), 0.0)
    return 2.0 * jnp.sum(signs, axis=1) / jnp.maximum(_masked.count(present), 1.0)


def _chain(x: Array, present: Array) -> Array:
    """Derivatives of Σ |x_i - x_j|, j being the next after i that is there."""
    # Those that are there first, in their order.
    order = jnp.argsort(~present, stable=True)
    x, present = x[order], present[order]
    signs = jnp.where(present[1:], _sign_of_difference(x[:-1], x[1:]), 0.0)
    none = jnp.zeros(1, signs.dtype)
    pull = jnp.concatenate([signs, none]) - jnp.concatenate([none, signs])
    return jnp.zeros_like(pull).at[order].set(pull)


def _sign_of_difference(x: Array, y: Array) -> Array:
    """Sign of x - y, and 0 for two that are equal to within rounding.

    A compiler may round the same product differently in two places.
    """
    rounding = 4 * jnp.finfo(jnp.float32).eps * jnp.maximum(jnp.abs(x), jnp.abs(y))
    return jnp.where(jnp.abs(x - y) > rounding, jnp.sign(x - y), 0.0)
