"""UPGrad: every gradient projected onto the cone in which no head loses."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _xla
from headwise import solvers
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def upgrad(preferences: _named.Given = None) -> _types.Balancer:
    """Every head's gradient is projected on the dual cone, then they are summed.

    ::

        direction = Σ_h u_h π(g_h),   π(g) = argmin_d |d - g|², all <g_k, d> >= 0

    The direction conflicts with no head, and grows linearly with each head's gradient.
    H quadratic programs of H unknowns, solved exactly (`hw.solvers.nonnegative_qp`) at
    any scale of the gradients; TorchJD adds a ridge of 1e-4 and falls back to the mean
    where gradients are shorter than 0.01.

    Args:
        preferences: {name: u_h >= 0}; None: 1 / H. With 1 each, two heads get what
            `pcgrad` gives them.

    Returns:
        A balancer that needs the gramian. Scale: a mean over heads (of projections).

    Raises:
        ValueError: a preference is negative; `init` gets other names.

    Example:
        >>> balancer = hw.balancers.upgrad()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))  # (1 + 22/18) / 2
        [1.1111 0.7895]

    References:
        Quinton and Rey, "Jacobian descent for multi-objective optimization",
        arXiv:2406.16232, 2024, equation 5.
    """
    _named.check("preferences", preferences, _checks.nonnegative)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, signals
        pulls = -preferences[:, None] * gram
        project = functools.partial(solvers.nonnegative_qp, gram)
        in_turn = _xla.solves_in_turn(gram)
        lifted = lax.map(project, pulls) if in_turn else jax.vmap(project)(pulls)
        return preferences + jnp.sum(lifted, axis=0)

    return _from_gram.from_gram("upgrad", solve, preferences)
