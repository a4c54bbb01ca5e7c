"""A moving average of the parameters, and the parameters that are to be evaluated."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from headwise import _checks
from headwise import _numerics
from headwise.training import _extra_args
from headwise.training import _sampled
from headwise.typing import Array
from headwise.typing import PyTree


class EmaState(NamedTuple):
    """The inner state, and the average."""

    inner: Any
    average: PyTree
    """Like the parameters, in at least float32."""
    moves: Array
    """int32, how often the parameters were moved."""


def ema(
    optimizer: optax.GradientTransformation,
    decay: float | Array,
    *,
    debias: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that also keeps an exponential moving average of the parameters.

    Training is what it is without; `averaged_params` is what one evaluates. With
    parameters p_0 at first and p_1, p_2, ... after each move ::

        debias:  average_t = Σ_k decay^(t-k) p_k / Σ_k decay^(t-k),  k = 1 ... t
        without: average_t = decay average_(t-1) + (1 - decay) p_t,  average_0 = p_0

    Conventions: with `debias` the first parameters do not count (Adam's rule, and that
    of `optax.ema`); without, they do with decay^t, as in Keras' `use_ema` and
    `torch.optim.swa_utils`: of 0.999 a third is left after a thousand steps.

    It goes around the whole optimiser, `hold_absent` around it. Around
    `optax.MultiSteps` the average moves when the parameters do; inside of it as well.

    Args:
        optimizer: of optax.
        decay: in [0, 1); 0.99 averages the last hundred, 0.999 the last thousand.
        debias: leave out the first parameters.

    Returns:
        An optimiser, whose `update` must be given `params`.

    Raises:
        ValueError: decay is outside [0, 1); `update` gets no parameters.
        TypeError: `optimizer` is none of optax; `debias` is not a bool.

    Example:
        >>> optimizer = hw.training.ema(optax.sgd(1.0), decay=0.5)
        >>> params, grads = {"w": jnp.array(0.0)}, {"w": jnp.array(-3.0)}
        >>> state = optimizer.init(params)
        >>> for _ in range(2):  # w: 3, 6
        ...     updates, state = optimizer.update(grads, state, params)
        ...     params = optax.apply_updates(params, updates)
        ...     print(state.average["w"])  # 3; (0.5 * 3 + 6) / 1.5
        3.0
        5.0
    """
    _checks.optimizer("optimizer", optimizer)
    _checks.below_one("decay", decay)
    _checks.boolean("debias", debias)
    inner = _extra_args.taking(optimizer)
    rate = jnp.asarray(1.0 - decay, jnp.float32)

    def init(params: PyTree) -> EmaState:
        average = jax.tree.map(_wide, params)
        return EmaState(inner.init(params), average, jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: EmaState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, EmaState]:
        if params is None:
            raise ValueError("ema: expected params in update(grads, state, params)")
        moved, new = inner.update(updates, state.inner, params, **extra)
        moves = state.moves + 1
        share = rate
        if debias:
            # 1 - decay^t without the loss of digits; a rate of 1 gives exp(-inf).
            share = rate / -jnp.expm1(moves.astype(jnp.float32) * jnp.log1p(-rate))

        def toward(old: Array, at: Array) -> Array:
            return old + share.astype(old.dtype) * (at.astype(old.dtype) - old)

        at = optax.apply_updates(params, moved)
        average = jax.tree.map(toward, state.average, at)
        waits = _waits(state.inner, new, moved)
        if waits is not None:
            average, moves = jax.tree.map(
                lambda old, new: jnp.where(waits, old, new),
                (state.average, state.moves),
                (average, moves),
            )
        return moved, EmaState(new, average, moves)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(state: Any) -> PyTree:
    """The parameters to evaluate: the averages that an optimiser keeps.

    Those of `ema`, or of `optax.contrib.schedule_free`
    (`optax.contrib.schedule_free_eval_params`), anywhere in the optimiser's state:
    inside of `optax.chain`, `multi_transform`, `MultiSteps`, `hold_absent`. What a part
    of the optimiser does not average is as it is in `state.params`.

    Args:
        state: `TrainState` or `BilevelState`. For `fit(eval_params=)` give the function
            itself.

    Returns:
        A pytree like `state.params`, of its dtypes.

    Raises:
        ValueError: the optimiser keeps no average.
        TypeError: `state` is none.

    Example:
        >>> optimizer = hw.training.ema(optax.sgd(1.0), decay=0.5, debias=False)
        >>> step = hw.training.make_step(lambda p, x: {"a": -3 * p["w"]}, optimizer)
        >>> state = hw.training.init_state(["a"], {"w": jnp.array(0.0)}, optimizer)
        >>> state, _ = step(state, None)
        >>> print(state.params["w"], hw.training.averaged_params(state)["w"])
        3.0 1.5
    """
    if not (hasattr(state, "params") and hasattr(state, "optimizer")):
        raise TypeError(
            "state: expected that of init_state or init_bilevel_state, got "
            f"{_checks.kind(state)}"
        )
    parts = jax.tree.leaves(state.optimizer, is_leaf=_averages)
    parts = [part for part in parts if _averages(part)]
    if not parts:
        raise ValueError(
            "state: expected that of an optimizer which averages, such as "
            "hw.training.ema(optimizer, 0.999), got "
            f"{_checks.kind(state.optimizer)}"
        )
    params = state.params
    for part in parts:
        params = jax.tree.map(_chosen, params, _of_part(part, state.params))
    return params


def _averages(part: Any) -> bool:
    return isinstance(part, EmaState | contrib.ScheduleFreeState)


def _of_part(part: Any, params: PyTree) -> PyTree:
    """The averages of a part; `MaskedNode`, None of frozen ones, where it has none."""
    if isinstance(part, EmaState):
        return part.average
    mine = jax.tree.map(lambda p, z: z if _masked(z) else p, params, part.z)
    return contrib.schedule_free_eval_params(part, mine)


def _chosen(params: Array, average: Any) -> Array:
    if _masked(average):
        return params
    return jnp.asarray(average).astype(jnp.asarray(params).dtype)


def _masked(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)


def _wide(x: Array) -> Array:
    return jnp.array(x, _numerics.accumulator(jnp.asarray(x)))


def _waits(before: Any, after: Any, moved: PyTree) -> Array | None:
    """Whether all parameters stay as they are until `optax.MultiSteps` has enough.

    None where there is no such part.
    """
    gathered = _sampled.moves(before, after)
    if gathered is None:
        return None
    moving = [jnp.any(x != 0) for x in jax.tree.leaves(moved)]
    return ~jnp.any(jnp.stack([gathered, *moving]))
