"""Bilevel steps: head weights learned on a validation batch, through training."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from headwise import _checks
from headwise import _trees
from headwise import gradients
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

INNER = optax.sgd(0.1)
"""The inner optimiser unless one is given: LibMTL's."""


class BilevelProblem(NamedTuple):
    """What a method may look at in one step; values are {name: scalar}, sorted."""

    params: PyTree
    values: dict[str, Array]
    """Of the training batch at the parameters."""
    grad: Callable[[Array], PyTree]
    """[H] weights -> gradient of Σ w_h value_h of the training batch there: one
    backward pass."""
    train: Callable[[PyTree], dict[str, Array]]
    """Parameters -> values of the training batch."""
    valid: Callable[[PyTree], dict[str, Array]]
    """Parameters -> values of the validation batch."""
    moved: Callable[[PyTree, PyTree], PyTree]
    """(parameters, gradient) -> parameters after the first inner step."""
    ahead: Callable[[Array], PyTree]
    """[H] weights -> parameters after all inner steps; to be differentiated."""
    inner_steps: int
    step: Array
    """int32, number of steps done."""


class BilevelDecision(NamedTuple):
    """What a method answers; H heads in sorted order of names."""

    weights: Array
    """[H] factor of each head's training value."""
    valid: dict[str, Array]
    """Validation values, where the method looked at them."""
    slopes: Array
    """[H] the gradient that moved each head's upper variable."""
    shares: Array
    """[H] how much each head's validation value counted in `slopes`."""
    direction: PyTree | None = None
    """The gradient to apply in place of that of Σ weight * training value."""


class BilevelMethod(NamedTuple):
    """A pair of pure functions that learn weights on validation values.

    Example:
        >>> method = hw.training.moml()
        >>> upper = method.init(["a", "b"])
        >>> print(jax.nn.softmax(upper.variables))
        [0.5 0.5]
    """

    init: Callable[[Sequence[str]], Any]
    """`init(names)` -> upper state, a NamedTuple of arrays."""
    update: Callable[[BilevelProblem, Any], tuple[BilevelDecision, Any]]
    """`update(problem, upper)` -> (decision, upper)."""


class BilevelState(NamedTuple):
    """All that changes in bilevel training: arrays only."""

    step: Array
    """int32, number of steps done."""
    params: PyTree
    rest: PyTree
    """Other state of the model (running statistics), () if it has none."""
    optimizer: Any
    upper: Any
    """The method's: variables behind the weights and their optimiser's state."""
    key: Array
    """The run's key; step t uses `fold_in(key, t)`."""


class BilevelInfo(NamedTuple):
    """What one bilevel step did."""

    values: dict[str, Array]
    """Raw value of each head on the training batch, before the step."""
    valid_values: dict[str, Array]
    """Raw value of each head on the validation batch: after the inner steps for
    `auto_lambda` and `moml`, before the step for `forum`."""
    weights: dict[str, Array]
    """Weight of each head's training value."""
    grad_norm: Array
    """Norm of the gradient that went into the optimiser."""
    slopes: dict[str, Array]
    """The gradient that moved each head's upper variable (the hypergradient)."""
    shares: dict[str, Array]
    """How much each head's validation value counted in it."""


def init_bilevel_state(
    names: Sequence[str],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    method: BilevelMethod,
    rest: PyTree = (),
    key: Array | None = None,
) -> BilevelState:
    """The state before the first bilevel step. Pure: may be vmapped over keys.

    Args:
        names: of the heads (`objective.names`).
        params: pytree of floating arrays.
        optimizer: of optax, of the parameters.
        method: `auto_lambda`, `moml` or `forum`.
        rest: other state of the model, passed through `values_fn`.
        key: of the run; None means `jax.random.key(0)`.

    Returns:
        `BilevelState`.

    Raises:
        TypeError, ValueError: `names` are no distinct names, or not those that the
            method was made for.

    Example:
        >>> method = hw.training.auto_lambda()
        >>> state = hw.training.init_bilevel_state(
        ...     ["b", "a"], {"w": jnp.ones(2)}, optax.sgd(0.1), method
        ... )
        >>> print(state.step, state.upper.variables)
        0 [0.1 0.1]
    """
    params = jax.tree.map(jnp.asarray, params)
    return BilevelState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        rest=rest,
        optimizer=optimizer.init(params),
        upper=method.init(names),
        key=jax.random.key(0) if key is None else key,
    )


def make_bilevel_step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    method: BilevelMethod,
    *,
    inner_optimizer: optax.GradientTransformation | None = INNER,
    inner_steps: int = 1,
    remat: bool = False,
    stateful: bool = False,
) -> Callable[[BilevelState, Any], tuple[BilevelState, BilevelInfo]]:
    """A pure `step(state, (train_batch, valid_batch)) -> (state, info)`.

    The weights are learned for what training with them does to validation values::

        θ_0 = θ,   θ_{t+1} = inner step from θ_t along the gradient of Σ w_h train_h
        upper variables <- step of the method, from  d valid_h(θ_T) / d upper variables
        θ <- step of `optimizer` along the gradient of Σ w_h train_h, with the new w

    The derivative through the T inner steps is exact, by automatic differentiation;
    `forum` does without it. All inner steps see the same training batch, and the same
    random numbers, as the step itself does.

    Args:
        values_fn: `(params, batch) -> {name: scalar}`; with `stateful`,
            `(params, rest, batch, key) -> ({name: scalar}, rest)`. Twice differentiable
            for an exact hypergradient. Both batches have the same heads.
        optimizer: of optax, of the parameters.
        method: `auto_lambda`, `moml` or `forum`.
        inner_optimizer: of optax, `sgd(0.1)` unless given; starts afresh in every step.
            Its update is differentiated (Adam needs `eps_root > 0`: its root has no
            derivative where the gradient is 0). None: `optimizer` from its present
            state, so that the first inner step is the one that these weights would
            make.
        inner_steps: T, at least 1. They are one `lax.scan`.
        remat: run the inner steps again in the backward pass (`jax.checkpoint`): T
            copies of the parameters in place of T copies of the activations.
        stateful: the model has running statistics or draws random numbers. Inner steps
            and validation use `rest` as it is; the step's own pass changes it.

    Returns:
        The step: jit, vmap or scan it; the state's arrays may be donated. Where a
        hypergradient is not finite, the upper variables stay.

    Raises:
        ValueError: `inner_steps` is not a positive int. When the step is called:
            the batch is no pair; the batches differ in their heads.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params - 1) ** 2 / 2, "b": (params + 1) ** 2 / 2}
        >>> method = hw.training.auto_lambda(["a"], 1.0, optimizer=optax.sgd(1.0))
        >>> sgd = optax.sgd(0.5)
        >>> step = hw.training.make_bilevel_step(
        ...     values_fn, sgd, method, inner_optimizer=sgd
        ... )
        >>> state = hw.training.init_bilevel_state(["a", "b"], 0.0, sgd, method)
        >>> state, info = step(state, (None, None))
        >>> # θ_1 = (w_a - w_b) / 2 = 0, so d valid_a / d w = (θ_1 - 1) * (1/2, -1/2)
        >>> print(info.slopes["a"], info.slopes["b"])
        -0.5 0.5
        >>> print(info.weights["a"], info.weights["b"], state.params)
        1.5 0.5 0.5

    References:
        Liu et al., "Auto-Lambda: disentangling dynamic task relationships", TMLR 2022,
        algorithm 1; Ye et al., "Multi-objective meta learning", NeurIPS 2021.
    """
    if isinstance(inner_steps, bool) or not (
        isinstance(inner_steps, int) and inner_steps > 0
    ):
        raise ValueError(f"inner_steps: expected a positive int, got {inner_steps!r}")

    def with_rest(params: PyTree, rest: PyTree, batch: Any, key: Array) -> Any:
        if stateful:
            return values_fn(params, rest, batch, key)
        return values_fn(params, batch), rest

    plain = gradients.with_aux(with_rest, True)

    def step(state: BilevelState, batch: Any) -> tuple[BilevelState, BilevelInfo]:
        train_batch, valid_batch = _pair(batch)
        of_train, of_valid = jax.random.split(jax.random.fold_in(state.key, state.step))
        _trees.check_floating("params", state.params)
        values, rest, backward = gradients.linearize(
            plain, state.params, state.rest, train_batch, of_train
        )
        names, structure = tuple(values), jax.tree.structure(state.params)

        def train(params: PyTree) -> dict[str, Array]:
            return plain(params, state.rest, train_batch, of_train)[0]

        def valid(params: PyTree) -> dict[str, Array]:
            found = plain(params, state.rest, valid_batch, of_valid)[0]
            _checks.same_names("values of the validation batch", names, found)
            return found

        def grad(weights: Array) -> PyTree:
            return jax.tree.unflatten(structure, backward.weighted(weights))

        inner, start = optimizer, state.optimizer
        if inner_optimizer is not None:
            inner, start = inner_optimizer, inner_optimizer.init(state.params)
        moved, ahead = _lookahead(inner, start, train, state.params, inner_steps, remat)
        problem = BilevelProblem(
            params=state.params,
            values=values,
            grad=grad,
            train=train,
            valid=valid,
            moved=moved,
            ahead=ahead,
            inner_steps=inner_steps,
            step=state.step,
        )
        decision, upper = method.update(problem, state.upper)
        grads = decision.direction
        if grads is None:
            grads = grad(decision.weights)
        updates, optimizer_state = optimizer.update(
            grads, state.optimizer, state.params
        )
        new = BilevelState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            rest=rest,
            optimizer=optimizer_state,
            upper=upper,
            key=state.key,
        )
        return new, BilevelInfo(
            values=dict(values),
            valid_values=decision.valid,
            weights=dict(zip(names, decision.weights, strict=True)),
            grad_norm=optax.tree.norm(grads),
            slopes=dict(zip(names, decision.slopes, strict=True)),
            shares=dict(zip(names, decision.shares, strict=True)),
        )

    return step


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = type(batch).__name__
        if isinstance(batch, tuple | list):
            got += f" of {len(batch)}"
        raise ValueError(f"batch: expected (train_batch, valid_batch), got {got}")
    return batch[0], batch[1]


def _lookahead(
    inner: optax.GradientTransformation,
    start: Any,
    train: Callable[[PyTree], dict[str, Array]],
    params: PyTree,
    steps: int,
    remat: bool,
) -> tuple[Callable[[PyTree, PyTree], PyTree], Callable[[Array], PyTree]]:
    """`moved` and `ahead` of a `BilevelProblem`."""

    def move(params: PyTree, grads: PyTree, state: Any) -> tuple[PyTree, Any]:
        updates, state = inner.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def moved(params: PyTree, grads: PyTree) -> PyTree:
        return move(params, grads, start)[0]

    def ahead(weights: Array) -> PyTree:
        def total(params: PyTree) -> Array:
            return jnp.sum(weights * stacked(train(params)))

        def one(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], None]:
            params, state = carry
            return move(params, jax.grad(total)(params), state), None

        body = jax.checkpoint(one) if remat else one
        return lax.scan(body, (params, start), None, length=steps)[0][0]

    return moved, ahead


def stacked(values: dict[str, Array]) -> Array:
    """[H] in the order of the dict."""
    return jnp.stack(list(values.values()))


class Upper(NamedTuple):
    """State of a method."""

    variables: Array
    """[H] weights or logits."""
    optimizer: Any
    shares: Array
    """[H] how much each head's validation value counts (FORUM: averaged λ)."""


def sorted_names(method: str, names: Sequence[str]) -> tuple[str, ...]:
    """Sorted names of the heads that a state is made for."""
    if isinstance(names, str):
        raise TypeError(f"{method}: expected a sequence of names, got {names!r}")
    return _checks.head_names(f"{method}: names", names)


def check_upper(method: str, problem: BilevelProblem, upper: Upper) -> None:
    """Raises ValueError unless the state is of as many heads as the values."""
    if upper.variables.shape != (len(problem.values),):
        raise ValueError(
            f"{method}: expected {upper.variables.shape[0]} heads, those of the state, "
            f"got {_checks.listing(problem.values)}"
        )


def descended(
    optimizer: optax.GradientTransformation, slopes: Array, upper: Upper
) -> Upper:
    """One step of the upper optimiser; none where a slope is not finite."""
    slopes = slopes.astype(upper.variables.dtype)
    finite = jnp.all(jnp.isfinite(slopes))
    safe = jnp.where(finite, slopes, jnp.zeros_like(slopes))
    updates, state = optimizer.update(safe, upper.optimizer, upper.variables)
    variables = jnp.asarray(optax.apply_updates(upper.variables, updates))
    moved = upper._replace(variables=variables, optimizer=state)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, upper)
