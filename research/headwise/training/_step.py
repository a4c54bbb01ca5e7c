"""One pure training step: gradients, balancer, optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _means
from headwise import _products
from headwise import balancers
from headwise import gradients
from headwise.training import _extra_args
from headwise.training import _gradient_to_apply
from headwise.training import _model
from headwise.training import _sampled
from headwise.training import _state
from headwise.typing import ValuesFn


def make_step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    balancer: balancers.Balancer | None = None,
    *,
    stateful: bool = False,
    private: str = "weighted",
    wrt: Any = None,
    microbatches: int = 1,
    contributions: bool | int = False,
) -> Callable[[_state.TrainState, Any], tuple[_state.TrainState, _state.StepInfo]]:
    """A pure `step(state, batch) -> (state, info)`; jit, vmap or scan it as you like.

    Args:
        values_fn: `(params, batch) -> {name: scalar}`; with `stateful`,
            `(params, rest, batch, key) -> ({name: scalar}, rest)`. Values of
            `hw.Objective`, or `hw.Means` by hand, tell which heads have data in this
            batch; the others are absent in the step.
        optimizer: of optax. One that takes extra arguments gets `value` (the weighted
            total), `grad`, `value_fn` (parameters -> the total of this batch at these
            weights), `grad_fn` (its gradient, for `optax.contrib.sam`), `present` and
            `reaches` (`hold_absent`).
        balancer: of `hw.balancers`. None: the step minimises `objective.total` of the
            `hw.Objective` whose `values` these are, at its weights, also if they are
            schedules; a head of other origin has weight 1. A balancer that is given
            takes no notice of them, and neither does a state of `constant`, whose
            weights were given with it.
        stateful: the model has running statistics or draws random numbers.
        private: "weighted" or "own", as in `hw.balanced_grad`.
        wrt: what a gramian is taken over, as in `hw.balanced_grad`.
        microbatches: parts of a batch that are gone through one after the other, as in
            `hw.balanced_grad`. A stateful model gets the `rest` that the part before
            returned, and in part i the key `fold_in(key, i)`: BatchNorm normalises by
            the examples of one part, and its running statistics move once a part. So it
            does with the parts that a balancer wants (`modo`).
        contributions: True: also compute every head's gradient and put
            `hw.contributions` of the applied update into `info`. The step costs a
            backward pass a head then; the update is the same. A number k: only in
            steps 0, k, 2 k and so on, inside the same program; NaN in the others
            (`hw.gradients.monitor`). Where `optax.MultiSteps` moves nothing in such a
            step, in the next one that moves: the shares of the last batch in it.

    Returns:
        The step. The state's arrays may be donated.

    Raises:
        ValueError: unknown `private`; `microbatches` is no positive int. When the step
            is called: `values_fn` has other heads than the state.
        TypeError: when it is called: the state is of another balancer.

    Example:
        >>> def values_fn(params, batch):
        ...     return {"a": (params["w"] - batch) ** 2, "b": params["w"] ** 2}
        >>> optimizer = optax.sgd(0.25)
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.0})
        >>> step = hw.training.make_step(values_fn, optimizer, balancer)
        >>> params = {"w": jnp.array(0.0)}
        >>> state = hw.training.init_state(["a", "b"], params, optimizer, balancer)
        >>> state, info = step(state, 4.0)
        >>> print(state.params["w"], info.values["a"], info.grad_norm)
        2.0 16.0 8.0
    """
    _checks.optimizer("optimizer", optimizer)
    with_rest = _model.with_rest(values_fn, stateful)
    whole = _model.in_parts(with_rest, microbatches)
    every = _sampled.period(contributions)
    gradient = _gradient_to_apply.gradient_to_apply(
        with_rest,
        balancer,
        private,
        has_aux=True,
        head_grads=every == 1,
        wrt=wrt,
        microbatches=microbatches,
        stateful=True,
    )
    monitor = None
    if every > 1:
        monitor = gradients.monitor(whole, every, has_aux=True)

    def step(
        state: _state.TrainState, batch: Any
    ) -> tuple[_state.TrainState, _state.StepInfo]:
        _model.check_state(_state.TrainState, "init_state", state)
        of_model, of_balancer = jax.random.split(
            jax.random.fold_in(state.key, state.step)
        )
        args = (batch, state.rest, of_model)
        (grads, info, balancer_state), layout = gradient(
            state.params,
            state.balancer,
            args,
            of_balancer,
            state.step,
            None,
            state.names,
        )
        told = _extra_args.told(whole, state.params, args, grads, info, layout)
        updates, optimizer_state = _extra_args.update(
            optimizer, grads, state.optimizer, state.params, told
        )
        report = None
        if info.grads is not None and every == 1:
            report = gradients.contributions(
                info.grads,
                info.weights,
                updates,
                reaches=layout().trees(list(info.values), state.params),
                present=_means.tally_of(info.values).here(info.values),
            )
        elif monitor is not None:
            number = _sampled.as_step(
                every, state.step, state.optimizer, optimizer_state
            )
            report = monitor(
                number, state.params, *args, weights=info.weights, update=updates
            )
        params = optax.apply_updates(state.params, updates)
        if balancer is not None and balancer.after is not None:
            moved, _ = whole(params, *args)
            here = _means.tally_of(info.values).here(info.values)
            if here is not None:
                moved = _means.without_absent(moved, here)
            moved = jnp.stack([moved[name] for name in info.values])
            balancer_state = balancer.after(moved, balancer_state)
        new = _state.TrainState(
            step=state.step + 1,
            params=params,
            rest=info.aux,
            optimizer=optimizer_state,
            balancer=balancer_state,
            key=state.key,
            names=state.names,
        )
        norm = _products.norm(grads)
        return new, _state.StepInfo(
            values=info.values,
            weights=info.weights,
            grad_norm=norm,
            conflicts=info.conflicts,
            present=info.present,
            contributions=report,
            broken=info.broken,
        )

    # For `fit`: a look at the first batch, and at the weights that were given.
    step.__dict__.update(values_fn=with_rest, balancer=balancer)
    return step
