"""Bilevel training: what a method is, what it is shown, what it answers, the state."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _means
from headwise import _trees
from headwise import balancers
from headwise import gradients
from headwise.training import _first_state
from headwise.training import _loss_scale
from headwise.training import _trainable
from headwise.typing import Array
from headwise.typing import PyTree


class BilevelProblem(NamedTuple):
    """What a method may look at in one step; values are {name: scalar}, sorted.

    They are 0 for a head that has no data, and `hw.Means`, which tells, if any may have
    none.
    """

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
    """All that changes in bilevel training, and the names of the heads."""

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
    names: balancers.Names | None = None
    """Of the heads, static; None: the step takes any."""
    loss_scale: _loss_scale.LossScaleState | None = None
    """Where the step has a dynamic one."""


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
    conflicts: Array | None = None
    """With `contributions=True`: number of pairs of heads whose training gradients over
    the shared parameters point apart."""
    contributions: gradients.Contributions | None = None
    """With `contributions`: shares of the update that was applied, of the gradients of
    the training values; NaN in the steps between two samples."""
    present: dict[str, Array] | None = None
    """Bool: whether each head has data in the training batch; None if all are known to
    have."""
    skipped: Array | None = None
    """Bool, with a dynamic loss scale: whether something was not finite, and the step
    left all as it was."""
    loss_scale: Array | None = None
    """With a dynamic one: that of this step."""


def check_method(got: Any) -> None:
    """Raises TypeError unless it is a method of bilevel training."""
    if not isinstance(got, BilevelMethod):
        raise TypeError(
            "method: expected a BilevelMethod (auto_lambda(), moml() or forum() of "
            f"hw.training), got {_checks.kind(got)}{_checks.call_it(got)}"
        )


def pair(batch: Any) -> tuple[Any, Any]:
    """The training and the validation batch; raises ValueError for anything else."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = type(batch).__name__
        if isinstance(batch, tuple | list):
            got += f" of {len(batch)}"
        raise ValueError(f"batch: expected (train_batch, valid_batch), got {got}")
    return batch[0], batch[1]


def init_bilevel_state(
    names: Sequence[str],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    method: BilevelMethod,
    rest: PyTree = (),
    key: Array | None = None,
    *,
    trainable: Any = None,
    loss_scale: _loss_scale.LossScale | float | None = None,
) -> BilevelState:
    """The state before the first bilevel step. Pure: may be vmapped over keys.

    All arrays are copies, as those of `init_state`: the state may be donated.

    Args:
        names: of the heads (`objective.names`).
        params: pytree of floating arrays.
        optimizer: of optax, of the parameters.
        method: `auto_lambda`, `moml` or `forum`.
        rest: other state of the model, passed through `values_fn`.
        key: of the run; None means `jax.random.key(0)`.
        trainable: the step's, as in `init_state`.
        loss_scale: the step's.

    Returns:
        `BilevelState`.

    Raises:
        TypeError, ValueError: `names` are no distinct names, or not those that the
            method was made for; params holds a leaf that is not floating, or nothing;
            rest one that is no array, or a number too large for one; `trainable`
            selects nothing.

    Example:
        >>> method = hw.training.auto_lambda()
        >>> state = hw.training.init_bilevel_state(
        ...     ["b", "a"], {"w": jnp.ones(2)}, optax.sgd(0.1), method
        ... )
        >>> print(state.step, state.upper.variables)
        0 [0.1 0.1]
    """
    _checks.optimizer("optimizer", optimizer)
    check_method(method)
    if key is not None:
        _checks.key("key", key)
    _trees.check_floating("params", _trainable.part(trainable, params))
    _trees.check_arrays("rest", rest)
    params = jax.tree.map(_trees.strong, params)
    state = BilevelState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        rest=rest,
        optimizer=optimizer.init(_trainable.part(trainable, params)),
        upper=method.init(names),
        key=jax.random.key(0) if key is None else key,
        names=balancers.Names(names),
        loss_scale=_loss_scale.init(loss_scale),
    )
    return _first_state.first_state(state)


def there(values: dict[str, Array], beside: tuple) -> dict[str, Array]:
    """The values, 0 for heads that have no data, with what is told of them."""
    _, tally = beside
    here = tally.here(values)
    if here is not None:
        values = _means.without_absent(values, here)
    return _means.together(values, tally)
