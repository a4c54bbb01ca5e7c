"""Weights at which every head's pull has a given relation to its weight."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise.solvers import _linear_system
from headwise.solvers import _scaling
from headwise.typing import Array

ITERATIONS = 60


def fair(gram: Array, alpha: Array | float = 1.0) -> Array:
    """Solves gram w = w^(-1/α) for w > 0: α-fairness; α = 1 is Nash bargaining.

    The solution minimises the strictly convex function ::

        1/2 wᵀ gram w - Σ φ(w_h),    φ'(w) = w^(-1/α)

    found by damped Newton steps that stay inside w > 0, at most 60 of them (some ten
    are usual), in units in which the gradients have length 1. Then
    <g_h, Σ w g> = w_h^(-1/α) for every head: all are raised, those with a small weight
    most.

    Args:
        gram: [H, H], positive semi-definite; float32 or float64, H up to 64.
        alpha: > 0; may be traced. 1: proportional fairness (log utilities).

    Returns:
        [H] weights, > 0; 0 for a head whose gradient is zero, which has no part in it.
        Where the equations have no solution (Pareto-stationary: some combination with
        positive weights is 0) the weights are large and Σ w g is small: a ridge of 25
        units of rounding on the unit diagonal bounds them.

    Raises:
        ValueError: `gram` is not [H, H].

    Example:
        >>> w = hw.solvers.fair(jnp.array([[4.0, 0.0], [0.0, 0.25]]))  # w = 1 / |g|
        >>> print(np.asarray(w).round(4))
        [0.5 2. ]

    References:
        Ban and Ji, "Fair resource allocation in multi-task learning", ICML 2024,
        equation 6; Navon et al., "Multi-task learning as a bargaining game", ICML 2022,
        claim 3.1 (α = 1).
    """
    gram = _checks.array("gram", gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram: expected [H, H], got shape {gram.shape}")
    gram, _ = _scaling.as_problem(gram, gram[0])
    heads, dtype = gram.shape[0], gram.dtype
    unit, lengths, active = _scaling.unit_diagonal(gram)
    identity = jnp.eye(heads, dtype=dtype)
    unit = unit + 25 * jnp.finfo(dtype).eps * identity
    _checks.positive("alpha", alpha)
    power = 1.0 / jnp.asarray(alpha, dtype)
    # w = alone * u, where `alone` solves the problem of each head by itself. In u the
    # function is 1/2 uᵀKu - Σ K_hh Φ(u_h), K = pull pullᵀ * unit, Φ'(u) = u^-power.
    alone = lengths ** (-2.0 / (1.0 + power))
    pull = jnp.where(active, lengths * alone, 0.0)
    largest = jnp.max(pull)
    pull = pull / jnp.where(largest > 0, largest, 1.0)

    def newton(u: Array, unit: Array, pull: Array, power: Array) -> Array:
        """The step, relative to u; inverse of its Hessian in units of its diagonal."""
        utility = u ** (-power)
        along = _linear_system.dot(
            unit, pull * u
        )  # slope_h = pull_h (along_h - pull_h utility)
        curvature = 1.0 + power * utility / u
        scale = jnp.where(active, jnp.sqrt(curvature), 1.0)
        hessian = (unit * (1 - identity) / scale[:, None]) / scale[None, :]
        hessian = jnp.where(active[:, None] & active[None, :], hessian, 0.0) + identity
        right = jnp.where(active, (pull * utility - along) / scale, 0.0)
        move = _linear_system.solver(hessian)(right) / scale
        weight = jnp.where(active, pull * u, 1.0)
        relative = jnp.where(active, move / weight, 0.0)
        # Where there is no solution the Hessian may be singular: the search ends.
        return jnp.where(jnp.all(jnp.isfinite(relative)), relative, 0.0)

    held = lax.stop_gradient((unit, pull, power))

    def inside(move: Array) -> Array:
        """The part of the step that stays in u > 0; all of it near the solution."""
        return jnp.minimum(1.0, 0.9 / jnp.maximum(jnp.max(-move), 1e-3))

    def step(state: _Search) -> _Search:
        move = newton(state.u, *held)
        length = inside(move)
        small = jnp.max(jnp.abs(move)) < 8 * jnp.finfo(dtype).eps
        return _Search(state.u * (1 + length * move), state.rounds + 1, small)

    def going(state: _Search) -> Array:
        return ~state.done & (state.rounds < ITERATIONS)

    first = _Search(jnp.ones(heads, dtype), jnp.asarray(0), jnp.asarray(False))
    first = _numerics.alike(first, held)
    u = lax.stop_gradient(lax.while_loop(going, step, first).u)
    # One more step, outside of the loop, carries the derivatives.
    move = newton(u, unit, pull, power)
    u = u * (1 + lax.stop_gradient(inside(move)) * move)
    return jnp.where(active, u * alone, 0.0)


class _Search(NamedTuple):
    u: Array
    rounds: Array
    done: Array
