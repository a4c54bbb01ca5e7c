"""One pure training step: gradients, balancer, optimiser."""

import functools
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
from headwise.training import _loss_scale
from headwise.training import _model
from headwise.training import _sampled
from headwise.training import _scaled
from headwise.training import _state
from headwise.training import _trainable
from headwise.typing import ValuesFn

Step = Callable[[_state.TrainState, Any], tuple[_state.TrainState, _state.StepInfo]]


def make_step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    balancer: balancers.Balancer | None = None,
    *,
    stateful: bool = False,
    trainable: Any = None,
    private: str = "weighted",
    wrt: Any = None,
    microbatches: int = 1,
    contributions: bool | int = False,
    loss_scale: _loss_scale.LossScale | float | None = None,
) -> Step:
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
        trainable: the parameters to train, all with None: a predicate on their path
            (`lambda path: not path.startswith("trunk")`) or a prefix of their tree with
            bool leaves (`{"trunk": False, "head": True}`). The others stay as they are
            in the state, whatever the optimiser does: they are constants of the model,
            to which no backward pass goes, of which it remembers nothing, and which
            `info`, the gramian and the contributions do not know. The state is that of
            `init_state` with the same `trainable`.
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
        loss_scale: for a model that computes in float16, whose small gradients are 0
            there: a number, by which the way back through the model is scaled, or
            `dynamic_loss_scale()`, which finds it, skips steps that overflow
            (`info.skipped`) and is given to `init_state` too. Values, weights and
            gradients are the unscaled ones everywhere.

    Returns:
        The step. The state's arrays may be donated.

    Raises:
        ValueError: unknown `private`; `microbatches` is no positive int; `loss_scale`
            is not positive, or comes with features. When the step is called:
            `values_fn` has other heads than the state; `trainable` selects nothing, or
            the optimiser's state is of another one; parameters are float16 with a loss
            scale.
        TypeError: `optimizer` or `balancer` is none (a factory must be called). When
            the step is called: `values_fn` takes other arguments (`stateful`); the
            state is of another balancer, or has a loss scale and the step none, or the
            reverse.

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
    make = functools.partial(
        _step,
        optimizer=optimizer,
        balancer=balancer,
        stateful=stateful,
        private=private,
        wrt=wrt,
        microbatches=microbatches,
        contributions=contributions,
        loss_scale=loss_scale,
    )
    return _trainable.of_step(make, values_fn, trainable)


def _step(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    balancer: balancers.Balancer | None,
    stateful: bool,
    private: str,
    wrt: Any,
    microbatches: int,
    contributions: bool | int,
    loss_scale: _loss_scale.LossScale | float | None,
) -> Step:
    """A step of all parameters."""
    _checks.optimizer("optimizer", optimizer)
    _loss_scale.check(loss_scale, wrt)
    with_rest = _model.with_rest(values_fn, stateful)
    model = with_rest if loss_scale is None else _scaled.scaled(with_rest)
    whole = _model.in_parts(model, microbatches)
    every = _sampled.period(contributions)
    gradient = _gradient_to_apply.gradient_to_apply(
        model,
        balancer,
        private,
        has_aux=True,
        head_grads=every == 1,
        wrt=wrt,
        microbatches=microbatches,
        stateful=True,
        in_step=True,
    )
    monitor = None
    if every > 1:
        monitor = gradients.monitor(whole, every, has_aux=True)

    def step(
        state: _state.TrainState, batch: Any
    ) -> tuple[_state.TrainState, _state.StepInfo]:
        _model.check_state(_state.TrainState, "init_state", state)
        _scaled.refuse_held(state)
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
            gramian=info.gramian,
        )

    made = _scaled.guarded(step, loss_scale)
    # For `fit`: a look at the first batch, and at the weights that were given.
    made.__dict__.update(values_fn=with_rest, balancer=balancer)
    return made
