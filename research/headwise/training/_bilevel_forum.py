"""FORUM: the multi-objective bilevel problem, with first derivatives alone."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import balancers
from headwise import gradients
from headwise import solvers
from headwise.training import _bilevel
from headwise.training import _bilevel_upper
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import Schedule


def slowing(step: Any) -> Array:
    """(step + 1)^(-3/4), the default rate of `forum`'s moving average."""
    return jnp.asarray(step + 1, jnp.result_type(float)) ** -0.75


def forum(
    phi: float = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    *,
    smoothing: float | Schedule = slowing,
    normalized: bool = True,
) -> _bilevel.BilevelMethod:
    """FORUM: validation values fall, subject to training having converged.

    Training with the weights w = softmax(logits) is a constraint on (logits, θ)
    together: q = 0, with θ_T the parameters after the inner steps, held fixed::

        q(logits, θ) = Σ w_h train_h(θ) - Σ w_h train_h(θ_T)
        d = argmax_d  min_h <g_h, d> - |d|²/2   subject to  <∇q, d> >= phi |∇q|²

    where g_h is the gradient of valid_h over (logits, θ), 0 in the logits, of length 1
    if `normalized`. Its solution is d = Σ λ_h g_h + ν ∇q, with λ on the simplex and ν =
    max(phi - <∇q, Σ λ_h g_h> / |∇q|², 0). λ is averaged over the steps, ν follows from
    the average. Both θ and the logits step along d, each with its own optimiser: no
    derivative of a gradient is taken, so that `values_fn` needs but one.

    Args:
        phi: > 0, how fast q falls; 0.1 in LibMTL, whose ν has this phi but whose λ
            solves the dual with half of it.
        optimizer: of the logits, which start at 0; None means `optax.adam(1e-3)`.
        smoothing: rate in (0, 1] of the moving average of λ, or a schedule of the step;
            (step + 1)^(-3/4) by default (LibMTL: of the epoch). It starts uniform.
        normalized: validation gradients of length 1, as in the official code.

    Returns:
        A method for `hw.training.make_bilevel_step`. The weights sum to 1;
        `info.shares` is the average of λ, which is 0 for a head whose gradient is not
        finite, or whose value no parameter moves.

    Raises:
        ValueError: phi <= 0; smoothing outside (0, 1].
        TypeError: `normalized` is no bool.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params - batch) ** 2 / 2}
        >>> sgd, method = optax.sgd(1.0), hw.training.forum(0.5)
        >>> step = hw.training.make_bilevel_step(values_fn, sgd, method)
        >>> state = hw.training.init_bilevel_state(["a"], 0.0, sgd, method)
        >>> state, info = step(state, (2.0, -1.0))     # ∇q = -2, g = 1
        >>> print(info.grad_norm, state.params)        # ν = 1/2 + 2/4, d = 1 - 2
        1.0 1.0

    References:
        Ye et al., "A first-order multi-gradient algorithm for multi-objective bi-level
        optimization", ECAI 2024, algorithm 1.
    """
    _checks.positive("phi", phi)
    _checks.boolean("normalized", normalized)
    if not callable(smoothing):
        _checks.positive("smoothing", smoothing)
        _checks.fraction("smoothing", smoothing)
    _checks.optimizer("optimizer", optimizer, optional=True)
    of_logits = optax.adam(1e-3) if optimizer is None else optimizer

    def init(names: Sequence[str]) -> _bilevel_upper.Upper:
        names = balancers.Names(names, "forum")
        logits = jnp.zeros(len(names))
        return _bilevel_upper.Upper(
            names,
            logits,
            of_logits.init(logits),
            jax.nn.softmax(jnp.zeros_like(logits)),
        )

    def update(
        problem: _bilevel.BilevelProblem, upper: _bilevel_upper.Upper
    ) -> tuple[_bilevel.BilevelDecision, _bilevel_upper.Upper]:
        _bilevel_upper.check_upper("forum", problem, upper)
        weights = jax.nn.softmax(upper.variables)
        later = _bilevel_upper.stacked(problem.train(problem.ahead(weights)))
        gap = (_bilevel_upper.stacked(problem.values) - later).astype(weights.dtype)
        of_logits_q = weights * (gap - jnp.sum(weights * gap))
        of_params_q = problem.grad(weights)
        valid, rows, moves = _bilevel_upper.graded(problem.valid, problem.params)
        # Sorted: the heads, then ∇q.
        every = {f"head {name}": row for name, row in rows.items()} | {"q": of_params_q}
        gram = gradients.gramian(every)
        squared = gram[-1, -1] + jnp.sum(jnp.square(of_logits_q)).astype(gram.dtype)
        gram, cross = gram[:-1, :-1], gram[:-1, -1]
        present = jnp.isfinite(jnp.diagonal(gram)) & jnp.isfinite(cross) & moves
        present = present & _bilevel_upper.with_data(valid)
        gram = jnp.where(present[:, None] & present[None, :], gram, 0.0)
        cross = jnp.where(present, cross, 0.0)
        factor = present.astype(gram.dtype)
        if normalized:
            lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
            factor = _numerics.safe_divide(factor, lengths, 0.0)
        gram, cross = gram * factor[:, None] * factor[None, :], cross * factor
        best = shares_under_constraint(gram, cross, squared, phi, present)
        rate = smoothing(problem.step) if callable(smoothing) else smoothing
        shares = upper.shares + rate * (best.astype(upper.shares.dtype) - upper.shares)
        scale = shares.astype(gram.dtype)
        along = _numerics.safe_divide(jnp.sum(scale * cross), squared, jnp.inf)
        nu = jnp.maximum(phi - along, 0.0)
        direction = _combined(scale * factor, list(rows.values()), nu, of_params_q)
        slopes = nu.astype(of_logits_q.dtype) * of_logits_q
        new = _bilevel_upper.descended(of_logits, slopes, upper)._replace(shares=shares)
        decision = _bilevel.BilevelDecision(
            weights=weights,
            valid=valid,
            slopes=slopes,
            shares=shares,
            direction=direction,
        )
        return decision, new

    return _bilevel.BilevelMethod(init, update)


def _combined(
    factors: Array, rows: Sequence[PyTree], nu: Array, of_q: PyTree
) -> PyTree:
    """Σ factor * row + ν ∇q; a factor of 0 leaves no trace."""

    def leaf(q: Array, *heads: Array) -> Array:
        dtype = _numerics.accumulator(q, *heads)
        total = nu.astype(dtype) * q.astype(dtype)
        for h, row in enumerate(heads):
            total += _numerics.drop_zero_weight(
                factors[h].astype(dtype), row.astype(dtype)
            )
        return total.astype(q.dtype)

    return jax.tree.map(leaf, of_q, *rows)


def shares_under_constraint(
    gram: Array, cross: Array, squared: Array, phi: float, present: Array
) -> Array:
    """λ of the direction that serves the worst head best while q falls fast enough.

    ::

        min |Σ λ_h g_h + ν ∇q|² / 2 - ν phi |∇q|²   subject to  λ >= 0, Σ λ = 1, ν >= 0

    Given the multiplier t of Σ λ = 1, λ and ν solve a problem with bounds alone; Σ λ
    grows with t, which is found by bisection. Between its last two values λ is linear.

    Args:
        gram: [H, H] of the g.
        cross: [H], <∇q, g_h>.
        squared: |∇q|²; 0 means that there is no constraint.
        phi: > 0.
        present: [H] bool; the others get 0.

    Returns:
        [H] λ, sum 1 (0 if none is present).
    """
    heads = gram.shape[0]
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
    unit = jnp.max(lengths)
    unit = jnp.where(unit > 0, unit, 1.0)
    of_q = jnp.sqrt(squared)
    cosine = _numerics.safe_divide(cross / unit, jnp.broadcast_to(of_q, (heads,)), 0.0)
    last = jnp.where(of_q > 0, 1.0, 0.0).astype(gram.dtype)
    matrix = jnp.concatenate(
        [
            jnp.concatenate([gram / unit / unit, cosine[:, None]], axis=1),
            jnp.append(cosine, last)[None, :],
        ]
    )
    drive = phi * of_q / unit
    upper = jnp.append(present.astype(gram.dtype), jnp.inf)

    def solve(level: Array) -> Array:
        linear = jnp.append(jnp.full(heads, level), drive)
        return solvers.box_qp(matrix, linear, 0.0, upper)[:-1]

    # |Σ λ g + ν q| <= 2 H + drive in these units: all at a bound at either end.
    far = 2.0 * heads + drive + 1.0

    def halve(_: Any, ends: tuple) -> tuple:
        low, high, below, above = ends
        level = (low + high) / 2
        shares = solve(level)
        small = jnp.sum(shares) < 1
        return (
            jnp.where(small, level, low),
            jnp.where(small, high, level),
            jnp.where(small, shares, below),
            jnp.where(small, above, shares),
        )

    below, above = jnp.zeros_like(cosine), present.astype(gram.dtype)
    halvings = 24 if gram.dtype == jnp.float32 else 53
    ends = lax.fori_loop(0, halvings, halve, (-far, far, below, above))
    below, above = ends[2:]
    rise = jnp.sum(above) - jnp.sum(below)
    part = _numerics.safe_divide(1.0 - jnp.sum(below), rise, 1.0)
    shares = jnp.maximum(below + part * (above - below), 0.0)
    total = jnp.sum(shares)
    return _numerics.safe_divide(shares, jnp.broadcast_to(total, shares.shape), 0.0)
