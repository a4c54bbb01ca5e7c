"""Small linear programs, by the simplex method on a dense tableau."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise.solvers import _linear_system
from headwise.typing import Array


def linear_program(
    objective: Array, matrix: Array, bound: Array
) -> tuple[Array, Array]:
    """Maximises a linear function over x >= 0.

    ::

        argmax_x  objectiveᵀ x   subject to  matrix x <= bound,  x >= 0

    Two phases with one artificial variable. The steepest column enters; after some
    2 M + N pivots the right side is moved a little, so that many corners in one point
    are told apart; after four times as many Bland's rule takes over; after six times
    the search ends. Rows, columns, bound and objective are brought to size 1, prices
    are made anew for every pivot, and the answer is refined once, so that float32 holds
    for 64 heads. Runs inside `jit` and `vmap`, without a host solver.

    Args:
        objective: [N].
        matrix: [M, N]; float32 or float64. Equations are two rows each.
        bound: [M]; inf for a row that does not count. May be negative.

    Returns:
        ([N] x, >= 0; bool whether it is the solution). Where no x satisfies the rows
        (False) the x whose largest violation is the least, rows measured by their
        largest entry; where the objective has no upper limit (False) a corner on the
        way. Where the solution is not unique, a corner of the set of solutions.

    Raises:
        ValueError: `matrix` is not [M, N]; `objective` is not [N]; `bound` is not [M].

    Example:
        >>> x, solved = hw.solvers.linear_program(  # x + y <= 4, x + 3 y <= 6
        ...     jnp.array([3.0, 5.0]),
        ...     jnp.array([[1.0, 1.0], [1.0, 3.0]]),
        ...     jnp.array([4.0, 6.0]),
        ... )
        >>> print(np.asarray(x).round(4), solved)
        [3. 1.] True

    References:
        Chvátal, "Linear programming", 1983, chapters 2, 3 and 8.
    """
    matrix = _checks.array("matrix", matrix)
    objective = _checks.array("objective", objective)
    bound = _checks.array("bound", bound)
    if matrix.ndim != 2:
        raise ValueError(f"matrix: expected [M, N], got shape {matrix.shape}")
    if objective.shape != matrix.shape[1:]:
        raise ValueError(
            f"objective: expected shape {matrix.shape[1:]}, got {objective.shape}"
        )
    if bound.shape != matrix.shape[:1]:
        raise ValueError(f"bound: expected shape {matrix.shape[:1]}, got {bound.shape}")
    dtype = _numerics.accumulator(matrix)
    counts = bound < jnp.inf
    a = jnp.where(counts[:, None], matrix, 0.0).astype(dtype)
    b = jnp.where(counts, bound, 1.0).astype(dtype)
    rows = _size(jnp.max(jnp.abs(a), axis=1))
    a, b = a / rows[:, None], b / rows
    columns = _size(jnp.max(jnp.abs(a), axis=0))
    a, c = a / columns[None, :], objective.astype(dtype) / columns
    # A row that does not count has no say in the size either.
    size = _size(jnp.max(jnp.where(counts, jnp.abs(b), 0.0)))
    b = jnp.where(counts, b / size, 1.0)
    x, solved = _solve(a, b, c / _size(jnp.max(jnp.abs(c))))
    return x * size / columns, solved


def _size(x: Array) -> Array:
    """What to divide by; 1 where all is 0."""
    return jnp.where(x > 0, x, jnp.ones_like(x))


class _Tableau(NamedTuple):
    rows: Array
    """[M, N + M + 2]: variables, slacks, the artificial variable, right side."""
    basis: Array
    """[M] the variable of each row."""
    pivots: Array
    done: Array
    solved: Array


def _solve(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    m, n = a.shape
    extra = n + m  # the artificial variable, which loosens all rows
    whole = jnp.concatenate(
        [a, jnp.eye(m, dtype=a.dtype), jnp.full((m, 1), -1.0, a.dtype)], axis=1
    )
    tolerance = 32 * float(jnp.finfo(a.dtype).eps)
    no = jnp.asarray(False)

    start = _Tableau(
        jnp.concatenate([whole, b[:, None]], axis=1),
        jnp.arange(n, n + m),
        jnp.asarray(0),
        no,
        no,
    )
    # Phase 1: the artificial variable enters where the bound is broken most, and is
    # then made as small as it can be.
    broken = jnp.min(b) < 0
    loose = _select(broken, _pivot(start, jnp.argmin(b), extra), start)
    price = jnp.zeros(extra + 1, a.dtype).at[extra].set(-1.0)
    first = _optimum(loose, price, jnp.ones(extra + 1, bool), tolerance)
    inside = first.basis == extra
    height = jnp.sum(jnp.where(inside, first.rows[:, -1], 0.0))
    feasible = height <= 8 * tolerance
    # It leaves the basis before phase 2, at height 0.
    row = jnp.argmax(inside)
    entries = jnp.abs(first.rows[row, :extra])
    column = jnp.argmax(entries)
    leaves = jnp.any(inside) & feasible & (entries[column] > tolerance)
    begin = _select(leaves, _pivot(first, row, column), first)
    begin = begin._replace(pivots=jnp.asarray(0), done=~feasible, solved=no)
    price = jnp.zeros(extra + 1, a.dtype).at[:n].set(c)
    allowed = jnp.ones(extra + 1, bool).at[extra].set(False)
    last = _optimum(begin, price, allowed, tolerance)

    # The slack columns are the inverse of the basis: one step of refinement.
    inverse = last.rows[:, n:extra]
    matrix = whole[:, last.basis]
    at = _linear_system.dot(inverse, b)
    at = at + _linear_system.dot(inverse, b - _linear_system.dot(matrix, at))
    x = jnp.zeros(extra + 1, a.dtype).at[last.basis].set(jnp.maximum(at, 0.0))
    return x[:n], last.solved & feasible


def _select(first: Array, one: _Tableau, other: _Tableau) -> _Tableau:
    return _Tableau(*(jnp.where(first, p, q) for p, q in zip(one, other, strict=True)))


def _pivot(tableau: _Tableau, row: Array, column: Array | int) -> _Tableau:
    """Exchanges the variable of a row for that of a column."""
    rows = tableau.rows
    divisor = rows[row, column]
    line = rows[row] / jnp.where(divisor == 0, 1.0, divisor)
    rest = rows - rows[:, column][:, None] * line[None, :]
    here = jnp.arange(rows.shape[0]) == row
    return tableau._replace(
        rows=jnp.where(here[:, None], line[None, :], rest),
        basis=jnp.where(here, column, tableau.basis),
    )


def _optimum(
    start: _Tableau, price: Array, allowed: Array, tolerance: float
) -> _Tableau:
    """Pivots until no variable that is allowed raises the price."""
    size = start.rows.shape[0] + start.rows.shape[1]
    # Multiples of the golden ratio, modulo 1: all different, in no order.
    count = jnp.arange(start.rows.shape[0], dtype=start.rows.dtype)
    apart = tolerance * (1 + (0.618034 * count) % 1)

    def step(state: _Tableau) -> _Tableau:
        moved = state.rows[:, -1] + apart.astype(state.rows.dtype)
        moved = jnp.where(state.pivots == size, moved, state.rows[:, -1])
        state = state._replace(rows=state.rows.at[:, -1].set(moved))
        body, right = state.rows[:, :-1], jnp.maximum(moved, 0.0)
        paid = price[state.basis]
        gain = price - _linear_system.dot(paid, body)
        noise = jnp.abs(price) + _linear_system.dot(jnp.abs(paid), jnp.abs(body))
        basic = jnp.zeros(price.shape, bool).at[state.basis].set(True)
        raises = allowed & ~basic & (gain > tolerance * noise)
        stops = body > tolerance
        steep = state.pivots < 4 * size
        best = jnp.argmax(jnp.where(raises, gain, -jnp.inf))
        column = jnp.where(steep, best, jnp.argmax(raises))
        entry = body[:, column]
        stop = stops[:, column]
        ratio = jnp.where(stop, right / jnp.where(stop, entry, 1.0), jnp.inf)
        tied = stop & (ratio <= jnp.min(ratio) + tolerance / 8)
        # Of equal rows the one with the largest pivot; by Bland the first variable.
        score = jnp.where(steep, entry, -state.basis.astype(entry.dtype))
        row = jnp.argmax(jnp.where(tied, score, -jnp.inf))
        solved = ~jnp.any(raises)
        done = solved | ~jnp.any(stop)
        new = _select(done, state, _pivot(state, row, column))
        return new._replace(pivots=state.pivots + 1, done=done, solved=solved)

    def going(state: _Tableau) -> Array:
        return ~state.done & (state.pivots < 6 * size)

    return lax.while_loop(going, step, _numerics.alike(start, price, allowed))
