"""MoDo and SDMGrad: MGDA with gradients that are drawn independently."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import solvers
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SimplexState(NamedTuple):
    """Weights that move a little in every step."""

    weights: Array
    """[H], on the simplex."""


def modo(
    learning_rate: float | Array = 0.1,
    regularization: float | Array = 0.1,
    batches: int = 3,
) -> _types.Balancer:
    """Multi-objective gradient with double sampling.

    One projected step on the simplex, with the gradients of two independent batches,
    whose product is an unbiased gramian (that of one batch is not)::

        w = Π(w - γ (G12 w + ρ w)),   G12 = <g_i of batch 1, g_j of batch 2>

    Args:
        learning_rate: γ: 0.1 in TorchJD, 1e-3 in LibMTL.
        regularization: ρ >= 0.
        batches: 3: the weights act on a third batch (the paper, algorithm 1); 2: on the
            second. `hw.balanced_grad` cuts its batch in so many parts.

    Returns:
        A balancer that needs a gramian. The weights start equal and sum to 1. The
        weights of absent heads are 0, and their share goes to the others.

    Raises:
        ValueError: `batches` is not 1, 2 or 3 (1: plain stochastic MGDA, biased).

    Example:
        >>> balancer = hw.balancers.modo(learning_rate=0.1, regularization=0.0)
        >>> gram = jnp.array([[1.0, 0.0], [0.0, 3.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))   # 0.45 and 0.35, plus 0.1
        [0.55 0.45]

    References:
        Chen et al., "Three-way trade-off in multi-objective learning", NeurIPS 2023,
        algorithm 1.
    """

    def move(gram: Array, w: Array, present: Array) -> tuple[Array, Array]:
        pull = jnp.matmul(gram, w, precision=jax.lax.Precision.HIGHEST)
        w = solvers.project_simplex(
            w - learning_rate * (pull + regularization * w), present
        )
        return w, w

    return _stochastic("modo", batches, move)


def sdmgrad(
    regularization: float | Array = 0.3,
    learning_rate: float | Array = 10.0,
    momentum: float | Array = 0.5,
    iterations: int = 20,
    batches: int = 3,
) -> _types.Balancer:
    """Stochastic direction-oriented multi-objective gradient descent.

    Some projected steps with momentum towards the least-norm point, pulled to the
    mean, with the gramian of two independent batches::

        v = μ v + G12 (w + λ u),   w = Π(w - γ v),   u = 1 / H
        weights = (w + λ u) / (1 + λ)

    G12 is divided by the square of the mean gradient norm, so that γ has no unit.

    Args:
        regularization: λ >= 0; the larger, the closer to the mean gradient.
        learning_rate: γ: 10 in TorchJD, 5 in LibMTL.
        momentum: μ of these steps, in [0, 1).
        iterations: steps for each update.
        batches: 3: the weights act on a third batch; 2: on the second.

    Returns:
        A balancer that needs a gramian. The weights sum to 1.

    Raises:
        ValueError: `batches` is not 1, 2 or 3; `iterations` < 1.

    Example:
        >>> balancer = hw.balancers.sdmgrad(0.0, learning_rate=1.0, iterations=1)
        >>> gram = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [0.5 0.5]

    References:
        Xiao et al., "Direction-oriented multi-objective learning: simple and provable
        stochastic algorithms", NeurIPS 2023, algorithm 1.
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected a positive number, got {iterations}")

    def move(gram: Array, w: Array, present: Array) -> tuple[Array, Array]:
        count = jnp.maximum(jnp.sum(present), 1).astype(gram.dtype)
        lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
        largest = jnp.max(lengths)
        unit = _numerics.safe_divide(
            lengths, jnp.broadcast_to(largest, lengths.shape), 0.0
        )
        mean = jnp.sum(unit) / count * largest
        mean = jnp.broadcast_to(mean, gram.shape)
        scaled = _numerics.safe_divide(gram, mean, 0.0)
        scaled = _numerics.safe_divide(scaled, mean, 0.0)
        u = jnp.where(present, 1.0 / count, 0.0)
        precise = jax.lax.Precision.HIGHEST

        def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            w, v = carry
            mixed = w + regularization * u
            v = momentum * v + jnp.matmul(scaled, mixed, precision=precise)
            return solvers.project_simplex(w - learning_rate * v, present), v

        first = _numerics.alike((w, jnp.zeros_like(w)), scaled, present)
        w, _ = jax.lax.fori_loop(0, iterations, step, first)
        return w, (w + regularization * u) / (1 + regularization)

    return _stochastic("sdmgrad", batches, move)


def _stochastic(
    name: str,
    batches: int,
    move: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> _types.Balancer:
    """A balancer with weights on the simplex and a gramian of several batches."""
    if batches not in (1, 2, 3):
        raise ValueError(f"batches: expected 1, 2 or 3, got {batches}")

    def init(names: Sequence[str], params: PyTree = None) -> SimplexState:
        del params
        heads = len(_types.sorted_names(name, names))
        return SimplexState(jnp.full(heads, 1.0 / heads, jnp.float32))

    def update(
        signals: _types.Signals, state: SimplexState
    ) -> tuple[_types.Decision, SimplexState]:
        _types.require(name, signals, "gram")
        _types.check_heads(name, state.weights.shape[0], signals)
        present = _types.presence(signals)
        gram = _types.present_gram(signals, present)
        start = solvers.project_simplex(state.weights.astype(gram.dtype), present)
        w, shown = move(gram, start, present)
        w = jnp.where(jnp.any(present), w, state.weights.astype(gram.dtype))
        decision = _types.Decision(jnp.where(present, shown, 0.0))
        return decision, SimplexState(w.astype(jnp.float32))

    return _types.Balancer(init, update, "gramian", batches=batches)
