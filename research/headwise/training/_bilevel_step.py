"""Bilevel steps: head weights learned on a validation batch, through training."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _means
from headwise import _products
from headwise import _trees
from headwise import gradients
from headwise.training import _bilevel
from headwise.training import _bilevel_lookahead
from headwise.training import _bilevel_report
from headwise.training import _extra_args
from headwise.training import _loss_scale
from headwise.training import _model
from headwise.training import _scaled
from headwise.training import _trainable
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

INNER = optax.sgd(0.1)
"""The inner optimiser unless one is given: LibMTL's."""


BilevelStep = Callable[
    [_bilevel.BilevelState, Any], tuple[_bilevel.BilevelState, _bilevel.BilevelInfo]
]


def make_bilevel_step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    method: _bilevel.BilevelMethod,
    *,
    inner_optimizer: optax.GradientTransformation | None = INNER,
    inner_steps: int = 1,
    remat: bool = False,
    stateful: bool = False,
    trainable: Any = None,
    microbatches: int = 1,
    contributions: bool | int = False,
    loss_scale: _loss_scale.LossScale | float | None = None,
) -> BilevelStep:
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
        trainable: the parameters to train, as in `make_step` and as given to
            `init_bilevel_state`; no inner step moves the others either.
        microbatches: cut both batches into so many parts along the leading axis of
            their arrays; every pass, those of the inner steps and of validation too,
            goes through the parts one after the other (`lax.scan`), in the memory of
            one, and runs each forward once more. Values are those of the whole batch,
            as in `hw.balanced_grad`; a stateful model goes through the parts as in
            `make_step`.
        contributions: True: also compute every head's training gradient and put
            `hw.contributions` of the applied update into `info`; a number k: only in
            steps 0, k, 2 k and so on, as in `hw.training.make_step`.
        loss_scale: as there. First derivatives are scaled, those of the inner steps
            among them; a hypergradient that is not finite skips the step too.

    Returns:
        The step: jit, vmap or scan it; the state's arrays may be donated. Where a
        hypergradient is not finite, the upper variables stay.

    Raises:
        ValueError: `inner_steps` or `microbatches` is not a positive int. When the step
            is called: the batch is no pair; the batches differ in their heads, or from
            the state; `microbatches` does not divide a batch, or the value of a head is
            no mean over examples.
        TypeError: when it is called: the state is of another method.

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
    make = functools.partial(
        _step,
        optimizer=optimizer,
        method=method,
        inner_optimizer=inner_optimizer,
        inner_steps=inner_steps,
        remat=remat,
        stateful=stateful,
        microbatches=microbatches,
        contributions=contributions,
        loss_scale=loss_scale,
    )
    return _trainable.of_step(make, values_fn, trainable)


def _step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    method: _bilevel.BilevelMethod,
    inner_optimizer: optax.GradientTransformation | None,
    inner_steps: int,
    remat: bool,
    stateful: bool,
    microbatches: int,
    contributions: bool | int,
    loss_scale: _loss_scale.LossScale | float | None,
) -> BilevelStep:
    """A step of all parameters."""
    inner_steps = _checks.positive_int("inner_steps", inner_steps)
    _checks.boolean("remat", remat)
    _checks.optimizer("optimizer", optimizer)
    _checks.optimizer("inner_optimizer", inner_optimizer, optional=True)
    _bilevel.check_method(method)
    _loss_scale.check(loss_scale)
    model = _model.with_rest(values_fn, stateful)
    if loss_scale is not None:
        model = _scaled.scaled(model)
    model = _model.in_parts(model, microbatches)
    plain = _model.plain(model, True)
    report = _bilevel_report.reporter(model, contributions)

    def step(
        state: _bilevel.BilevelState, batch: Any
    ) -> tuple[_bilevel.BilevelState, _bilevel.BilevelInfo]:
        _model.check_state(_bilevel.BilevelState, "init_bilevel_state", state)
        _scaled.refuse_held(state)
        train_batch, valid_batch = _bilevel.pair(batch)
        of_train, of_valid = jax.random.split(jax.random.fold_in(state.key, state.step))
        _trees.check_floating("params", state.params)
        args = (train_batch, state.rest, of_train)
        values, (rest, tally), backward = gradients.linearize(
            plain, state.params, *args
        )
        names, structure = tuple(values), jax.tree.structure(state.params)
        if state.names is not None:
            _checks.same_names("values_fn", state.names, names)
        here = tally.here(names)

        def train(params: PyTree) -> dict[str, Array]:
            return _bilevel.there(*plain(params, *args))

        def valid(params: PyTree) -> dict[str, Array]:
            later = _bilevel.there(*plain(params, valid_batch, state.rest, of_valid))
            _checks.same_names("values of the validation batch", names, later)
            return later

        def of_present(weights: Array) -> Array:
            return weights if here is None else jnp.where(here, weights, 0.0)

        def grad(weights: Array) -> PyTree:
            return jax.tree.unflatten(structure, backward.weighted(of_present(weights)))

        inner, start = optimizer, state.optimizer
        if inner_optimizer is not None:
            inner, start = inner_optimizer, inner_optimizer.init(state.params)
        moved, ahead = _bilevel_lookahead.lookahead(
            inner, start, train, state.params, inner_steps, remat
        )
        problem = _bilevel.BilevelProblem(
            params=state.params,
            values=_bilevel.there(values, (rest, tally)),
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
        updates, optimizer_state = _extra_args.mixing(
            optimizer, grads, state.optimizer, state.params
        )
        weights = dict(zip(names, of_present(decision.weights), strict=True))
        conflicts, shares = report(
            state, args, backward, weights, updates, here, optimizer_state
        )
        new = _bilevel.BilevelState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            rest=rest,
            optimizer=optimizer_state,
            upper=upper,
            key=state.key,
            names=state.names,
        )
        return new, _bilevel.BilevelInfo(
            values=_means.together(values, tally),
            valid_values=decision.valid,
            weights=weights,
            grad_norm=_products.norm(grads),
            slopes=dict(zip(names, decision.slopes, strict=True)),
            shares=dict(zip(names, decision.shares, strict=True)),
            conflicts=conflicts,
            contributions=shares,
            present=None if here is None else dict(zip(names, here, strict=True)),
        )

    return _scaled.guarded(step, loss_scale)
