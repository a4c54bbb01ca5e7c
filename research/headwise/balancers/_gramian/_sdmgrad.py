"""SDMGrad: towards the least norm and the mean, with independent gradients."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _types
from headwise.balancers._gramian import _simplex_steps
from headwise.typing import Array


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
        ValueError: `batches` is not 1, 2 or 3; a number is out of its range.

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
    _checks.nonnegative("regularization", regularization)
    _checks.positive("learning_rate", learning_rate)
    _checks.below_one("momentum", momentum)
    iterations = _checks.positive_int("iterations", iterations)

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

    return _simplex_steps.of_batches("sdmgrad", batches, move)
