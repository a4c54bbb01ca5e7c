"""Methods that differentiate through the inner steps: Auto-Lambda and MOML."""

from collections.abc import Mapping
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise import balancers
from headwise import solvers
from headwise.training import _bilevel
from headwise.training import _bilevel_upper
from headwise.typing import Array
from headwise.typing import PyTree

HYPERGRADIENTS = ("unrolled", "finite_difference")


def auto_lambda(
    primary: Sequence[str] | None = None,
    initial: float | Mapping[str, float | Array] = 0.1,
    optimizer: optax.GradientTransformation | None = None,
    *,
    lower: float | None = None,
    hypergradient: str = "unrolled",
    epsilon: float = 0.01,
) -> _bilevel.BilevelMethod:
    """Auto-Lambda: weights of all heads that serve the primary heads' validation.

    ::

        w <- step along  d/dw  Σ_primary valid_h(θ_T(w))

    where θ_T(w) are the parameters after the inner steps with the weights w. The
    weights themselves are the variables: they have no fixed sum, and fall below 0 for a
    head that harms the primary ones unless `lower` stops them.

    Args:
        primary: the heads whose validation values count; None means all.
        initial: first weight, of all heads or {name: weight}.
        optimizer: of the weights; None means `optax.adam(1e-4)`, as in the official
            code.
        lower: least weight, None for no bound (the paper).
        hypergradient: "unrolled": exact, through all inner steps. "finite_difference":
            the paper's, for one inner step: with u the derivative of Σ valid by the
            training gradient (-rate * ∇valid for SGD), central differences of the
            training values at θ ± epsilon u / |u|.
        epsilon: > 0, length of the step of those differences; 0.01 in the paper.

    Returns:
        A method for `hw.training.make_bilevel_step`.

    Raises:
        TypeError: `primary` is a str.
        ValueError: unknown `hypergradient`; epsilon <= 0; `primary` is empty;
            `init` gets other names than `initial`, or lacks some of `primary`; finite
            differences of more than one inner step.

    Example:
        >>> method = hw.training.auto_lambda(["a"], {"a": 1.0, "b": 0.25})
        >>> print(method.init(["a", "b"]).variables)
        [1.   0.25]

    References:
        Liu et al., "Auto-Lambda: disentangling dynamic task relationships", TMLR 2022,
        equations 4 to 6.
    """
    _checks.choice("hypergradient", HYPERGRADIENTS, hypergradient)
    _checks.positive("epsilon", epsilon)
    if primary is not None:
        primary = _checks.head_names("primary", primary)
    _checks.optimizer("optimizer", optimizer, optional=True)
    of_weights = optax.adam(1e-4) if optimizer is None else optimizer

    def init(names: Sequence[str]) -> _bilevel_upper.Upper:
        names = balancers.Names(names, "auto_lambda")
        chosen = names if primary is None else primary
        _checks.known_names("primary", names, chosen)
        given = initial
        if isinstance(given, Mapping):
            _checks.same_names("initial", names, given)
        else:
            given = dict.fromkeys(names, given)
        scalars = [_checks.scalar(f"initial[{n!r}]", given[n]) for n in names]
        variables = jnp.stack(scalars).astype(jnp.result_type(float))
        shares = jnp.asarray([n in chosen for n in names], variables.dtype)
        return _bilevel_upper.Upper(
            names, variables, of_weights.init(variables), shares
        )

    def update(
        problem: _bilevel.BilevelProblem, upper: _bilevel_upper.Upper
    ) -> tuple[_bilevel.BilevelDecision, _bilevel_upper.Upper]:
        _bilevel_upper.check_upper("auto_lambda", problem, upper)
        names = tuple(problem.values)
        chosen = names if primary is None else primary
        _checks.known_names("primary", names, chosen)

        def aim(params: PyTree) -> tuple[Array, dict[str, Array]]:
            values = problem.valid(params)
            return jnp.sum(jnp.stack([values[name] for name in chosen])), values

        if hypergradient == "unrolled":
            slopes, valid = jax.grad(
                lambda weights: aim(problem.ahead(weights)), has_aux=True
            )(upper.variables)
        else:
            if problem.inner_steps != 1:
                raise ValueError(
                    "inner_steps: expected 1 with hypergradient='finite_difference', "
                    f"got {problem.inner_steps}"
                )
            ahead, pull = jax.vjp(
                lambda grads: problem.moved(problem.params, grads),
                problem.grad(upper.variables),
            )
            toward, valid = jax.grad(aim, has_aux=True)(ahead)
            slopes = _differences(problem, pull(toward)[0], epsilon)
        # Of this method, not of the one that a checkpoint was made with.
        shares = jnp.asarray([n in chosen for n in names], upper.shares.dtype)
        new = _bilevel_upper.descended(of_weights, slopes, upper)
        new = new._replace(shares=shares)
        if lower is not None:
            new = new._replace(variables=jnp.maximum(new.variables, lower))
        decision = _bilevel.BilevelDecision(
            weights=new.variables, valid=valid, slopes=slopes, shares=shares
        )
        return decision, new

    return _bilevel.BilevelMethod(init, update)


def _differences(
    problem: _bilevel.BilevelProblem, along: PyTree, epsilon: float
) -> Array:
    """[H] derivatives of the training values along a direction, at two points."""
    norm = _products.norm(along)
    size = _numerics.safe_divide(jnp.full_like(norm, epsilon), norm, 0.0)

    def at(sign: float) -> Array:
        def shifted(x: Array, u: Array) -> Array:
            return x + (sign * size * u).astype(x.dtype)

        return _bilevel_upper.stacked(
            problem.train(jax.tree.map(shifted, problem.params, along))
        )

    return (at(1.0) - at(-1.0)) * (norm / (2 * epsilon))


def moml(
    optimizer: optax.GradientTransformation | None = None, *, normalized: bool = True
) -> _bilevel.BilevelMethod:
    """MOML: weights that serve every head's validation value at once.

    ::

        w = softmax(logits)
        r_h = d valid_h(θ_T(w)) / d logits,    r_h <- r_h / |r_h| if `normalized`
        s = argmin |Σ s_h r_h|²  subject to  s >= 0, Σ s = 1
        logits <- step along Σ s_h r_h

    The min-norm combination, solved exactly (`hw.solvers.min_norm`), lowers every
    validation value to first order, or is 0 where the weights are Pareto-stationary.
    The H pullbacks through the inner steps run one after the other, in the memory of
    one; only the H validation gradients are there together.

    Args:
        optimizer: of the logits, which start at 0; None means `optax.adam(1e-3)`, as in
            the official code.
        normalized: combine unit hypergradients, as the official code does; False: as
            they are, as the paper's text has it.

    Returns:
        A method for `hw.training.make_bilevel_step`. The weights sum to 1;
        `info.shares` is s, 0 for a head whose hypergradient is not finite, or whose
        value no parameter moves.

    Raises:
        TypeError: `normalized` is no bool.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params - 1) ** 2 / 2, "b": (params + 1) ** 2 / 2}
        >>> sgd, method = optax.sgd(1.0), hw.training.moml()
        >>> step = hw.training.make_bilevel_step(values_fn, sgd, method)
        >>> state = hw.training.init_bilevel_state(["a", "b"], 0.0, sgd, method)
        >>> _, info = step(state, (None, None))     # opposite hypergradients: balanced
        >>> print(f"{info.shares['a']:.3f} {info.slopes['a']:.3f}")
        0.500 0.000

    References:
        Ye et al., "Multi-objective meta learning", NeurIPS 2021, algorithm 1.
    """
    _checks.boolean("normalized", normalized)
    _checks.optimizer("optimizer", optimizer, optional=True)
    of_logits = optax.adam(1e-3) if optimizer is None else optimizer

    def init(names: Sequence[str]) -> _bilevel_upper.Upper:
        names = balancers.Names(names, "moml")
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
        _bilevel_upper.check_upper("moml", problem, upper)

        ahead, pull = jax.vjp(
            lambda logits: problem.ahead(jax.nn.softmax(logits)), upper.variables
        )
        valid, grads, moves = _bilevel_upper.graded(problem.valid, ahead)
        stack = jax.tree.map(lambda *heads: jnp.stack(heads), *grads.values())
        rows = lax.map(lambda grad: pull(grad)[0], stack)
        present = _bilevel_upper.with_data(valid) & moves
        present = present & jnp.all(jnp.isfinite(rows), axis=1)
        rows = jnp.where(present[:, None], rows, 0.0)
        if normalized:
            lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
            rows = _numerics.safe_divide(
                rows, jnp.broadcast_to(lengths, rows.shape), 0.0
            )
        gram = jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)
        shares = solvers.min_norm(gram, present).astype(upper.shares.dtype)
        slopes = jnp.sum(shares[:, None] * rows, axis=0)
        new = _bilevel_upper.descended(of_logits, slopes, upper)._replace(shares=shares)
        decision = _bilevel.BilevelDecision(
            weights=jax.nn.softmax(new.variables),
            valid=valid,
            slopes=slopes,
            shares=shares,
        )
        return decision, new

    return _bilevel.BilevelMethod(init, update)
