"""MoDo: MGDA with gradients that are drawn independently."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _types
from headwise.balancers._gramian import _simplex_steps
from headwise.typing import Array


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
        A balancer that needs a gramian. The weights start equal and sum to 1. An
        absent head has weight 0 and keeps its part of the weights until it is back.

    Raises:
        ValueError: `batches` is not 1, 2 or 3 (1: plain stochastic MGDA, biased); a
            number is out of its range.

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
    _checks.positive("learning_rate", learning_rate)
    _checks.nonnegative("regularization", regularization)

    def move(gram: Array, w: Array, present: Array) -> tuple[Array, Array]:
        pull = jnp.matmul(gram, w, precision=jax.lax.Precision.HIGHEST)
        w = solvers.project_simplex(
            w - learning_rate * (pull + regularization * w), present
        )
        return w, w

    return _simplex_steps.of_batches("modo", batches, move)
