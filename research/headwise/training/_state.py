"""The state of training and what a step tells: their types, and the first state."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _trees
from headwise import balancers
from headwise import gradients
from headwise.training import _first_state
from headwise.training import _loss_scale
from headwise.training import _trainable
from headwise.typing import Array
from headwise.typing import PyTree


class TrainState(NamedTuple):
    """All that changes in training, and the names: it checkpoints, vmaps and scans."""

    step: Array
    """int32, number of steps done."""
    params: PyTree
    rest: PyTree
    """Other state of the model (running statistics), () if it has none."""
    optimizer: Any
    balancer: Any
    key: Array
    """The run's key; step t uses `fold_in(key, t)`."""
    names: balancers.Names | None = None
    """Of the heads, static; None: the step takes any."""
    loss_scale: _loss_scale.LossScaleState | None = None
    """Where the step has a dynamic one."""


class StepInfo(NamedTuple):
    """What one step did."""

    values: dict[str, Array]
    """Raw value of each head, before the step; `hw.Means` where `values_fn` returns
    that."""
    weights: dict[str, Array]
    """Effective weight of each head."""
    grad_norm: Array
    """Norm of the gradient that went into the optimiser."""
    conflicts: Array | None = None
    """Number of conflicting pairs of heads, when the gramian was computed, else None;
    NaN between two refreshes of `balancers.every`."""
    present: dict[str, Array] | None = None
    """Bool: whether each head counted in this step."""
    contributions: gradients.Contributions | None = None
    """With `contributions`: shares of the update that was applied; NaN in the steps
    between two samples."""
    broken: dict[str, Array] | None = None
    """Bool: whether the head had data, but a value or, where gradients were looked at,
    a gradient that is not finite. None with static weights, which hide nothing."""
    skipped: Array | None = None
    """Bool, with a dynamic loss scale: whether something was not finite, and the step
    left all as it was."""
    loss_scale: Array | None = None
    """With a dynamic one: that of this step."""
    gramian: Array | None = None
    """[H, H] of the heads' gradients, sorted by name, where the balancer asked for it;
    NaN between two refreshes of `balancers.every`."""


def init_state(
    names: Sequence[str],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    balancer: balancers.Balancer | None = None,
    rest: PyTree = (),
    key: Array | None = None,
    *,
    trainable: Any = None,
    loss_scale: _loss_scale.LossScale | float | None = None,
) -> TrainState:
    """The state before the first step. Pure: may be vmapped over keys and weights.

    All arrays are copies: no two leaves share a buffer, and a step that is jitted with
    the state donated deletes none of the caller's. Put the parameters on their mesh
    first: what is made here (counters, weights, the optimiser's state) then lies there
    too, split like them or whole on each device, and a jitted step compiles once.

    Args:
        names: of the heads (`objective.names`).
        params: pytree of floating arrays; frozen ones may be of any type.
        optimizer: of optax.
        balancer: of `hw.balancers`, the step's; None means `equal()`.
        rest: other state of the model, passed through `values_fn`.
        key: of the run; None means `jax.random.key(0)`.
        trainable: the step's, as in `make_step`: optimiser and balancer know of these
            parameters alone.
        loss_scale: the step's.

    Returns:
        `TrainState`; its `params` are all of them.

    Raises:
        TypeError, ValueError: params holds a leaf that is not floating, or nothing;
            rest one that is no array, or a number too large for one;
            `trainable` selects nothing.

    Example:
        >>> state = hw.training.init_state(
        ...     ["a"], {"w": jnp.ones(2)}, optax.sgd(0.1), hw.balancers.equal()
        ... )
        >>> print(state.step, state.balancer.weights)
        0 [1.]
    """
    _checks.optimizer("optimizer", optimizer)
    balancer = balancers.equal() if balancer is None else balancer
    _checks.balancer("balancer", balancer)
    if key is not None:
        _checks.key("key", key)
    _trees.check_floating("params", _trainable.part(trainable, params))
    _trees.check_arrays("rest", rest)
    params = jax.tree.map(_trees.strong, params)
    part = _trainable.part(trainable, params)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        rest=rest,
        optimizer=optimizer.init(part),
        balancer=balancer.init(names, part),
        key=jax.random.key(0) if key is None else key,
        names=balancers.Names(names),
        loss_scale=_loss_scale.init(loss_scale),
    )
    return _first_state.first_state(state)
