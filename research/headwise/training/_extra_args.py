"""Optimisers with extra arguments, and one that holds still what no head moves."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _numerics
from headwise import _trees
from headwise.training import _info
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree

_ONE_OPTIMIZER = "; the state is made with the step's optimizer, and its trainable"


def told(
    model: Callable[..., tuple[Any, Any]],
    params: PyTree,
    args: tuple,
    grads: PyTree,
    info: _info.Info,
    layout: Callable[[], _layout.Layout],
) -> Callable[[], dict[str, Any]]:
    """What a step tells an optimiser that takes extra arguments, once it is asked.

    Args:
        model: `(params, *args) -> (values, rest)`.
        params, args: of the step.
        grads: the gradient to apply.
        info: of the step.
        layout: which leaves each head reaches.
    """

    def total(values: dict[str, Array]) -> Array:
        weights = jnp.stack(list(info.weights.values()))
        each = jnp.stack([values[name] for name in info.weights])
        return jnp.sum(_numerics.drop_zero_weight(weights, each))

    def value_fn(
        params: PyTree, present: Any = None, reaches: Any = None, grad_fn: Any = None
    ) -> Array:
        # A line search wants each extra argument taken by someone.
        del present, reaches, grad_fn
        return total(model(params, *args)[0])

    def grad_fn(params: PyTree, number: Any) -> PyTree:
        del number  # of the adversarial step: each looks at the same batch
        return jax.grad(value_fn)(params)

    def extra() -> dict[str, Any]:
        return {
            "value": total(info.values),
            "grad": grads,
            "value_fn": value_fn,
            "grad_fn": grad_fn,
            "present": info.present,
            "reaches": lambda: layout().trees(list(info.values), params),
        }

    return extra


def update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    state: Any,
    params: PyTree,
    extra: Callable[[], dict[str, Any]],
) -> tuple[PyTree, Any]:
    """`optimizer.update`, with the extra arguments for one that takes some."""
    told: dict[str, Any] = {}
    if isinstance(optimizer, optax.GradientTransformationExtraArgs | optax.MultiSteps):
        told = _taken(optimizer, extra())
    try:
        return mixing(optimizer, grads, state, params, **told)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Only now: it traces `init`.
        _trees.check_optimizer_state(
            "state.optimizer", optimizer, state, params, _ONE_OPTIMIZER
        )
        if "unexpected keyword argument" in str(error):
            raise TypeError(
                "optimizer: a part of it takes no extra arguments but its own "
                f"({error}); put it around the others, as in "
                "optax.contrib.sam(optax.chain(...), ...)"
            ) from error
        raise


def _taken(optimizer: Any, told: dict[str, Any]) -> dict[str, Any]:
    """Those of the extra arguments that an optimiser has a place for."""
    parameters = inspect.signature(optimizer.update).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return told
    return {name: x for name, x in told.items() if name in parameters}


def taking(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that takes any extra argument, and passes on those it has use for.

    `optax.MultiSteps` is a class of its own, which passes all on.
    """
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    inner = optax.with_extra_args_support(optimizer)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        return inner.update(updates, state, params, **_taken(inner, extra))

    return optax.GradientTransformationExtraArgs(inner.init, update)


def mixing(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    state: Any,
    params: PyTree,
    **told: Any,
) -> tuple[PyTree, Any]:
    """`optimizer.update`, where dtypes may be promoted.

    Optimisers mix them, which a strict user may have forbidden for his own arrays.
    """
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(grads, state, params, **told)


def hold_absent(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Keeps the private parameters of an absent head as they are for that step.

    A gradient of 0 is no rest: momentum, Adam and weight decay move a parameter all the
    same. With this wrapper a parameter that only absent heads reach keeps its value and
    what the optimiser remembers of it (momentum, second moments). What the optimiser
    remembers of no parameter alone, such as Adam's count of steps, goes on.

    `hw.training.make_step` says which heads are absent (`info.present`). In a loop of
    your own give `update` two keyword arguments: `present`, {name: bool}, and
    `reaches`, {name: pytree of bool}, as of `hw.routing(...).reaches`, or a function
    that returns that. Without them nothing is held.

    Args:
        optimizer: of optax, the whole of it: this goes around all others.

    Returns:
        An optimiser with the state of the one inside.

    Raises:
        TypeError: `optimizer` is none of optax.

    Example:
        >>> optimizer = hw.training.hold_absent(optax.sgd(1.0, momentum=0.5))
        >>> params = {"trunk": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> state = optimizer.init(params)
        >>> of_a, of_b = {"trunk": True, "b": False}, {"trunk": True, "b": True}
        >>> grads = {"trunk": jnp.array(0.5), "b": jnp.array(0.5)}
        >>> _, state = optimizer.update(grads, state, params)
        >>> nothing = {"trunk": jnp.array(0.0), "b": jnp.array(0.0)}
        >>> updates, _ = optimizer.update(
        ...     nothing, state, params, reaches={"a": of_a, "b": of_b},
        ...     present={"a": jnp.array(True), "b": jnp.array(False)},
        ... )
        >>> print(updates["trunk"], updates["b"])           # momentum, and none
        -0.25 0.0
    """
    _checks.optimizer("optimizer", optimizer)
    inner = taking(optimizer)

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        present: dict[str, Array] | None = None,
        reaches: Any = None,
        **extra: Any,
    ) -> tuple[PyTree, Any]:
        told = {"present": present, "reaches": reaches, **extra}
        moved, new = inner.update(updates, state, params, **told)
        if present is None or reaches is None:
            return moved, new
        held = _held(present, reaches() if callable(reaches) else reaches)
        # None where nothing can be held: no operation there.
        of_state = optax.tree.map_params(
            inner,
            lambda of_leaf, on: of_leaf if _is_masked(of_leaf) else on,
            state,
            held,
            transform_non_params=lambda _: None,
            is_leaf=_is_masked,
        )

        def keep(on: Array | None, old: Any, new: Any) -> Any:
            return new if on is None else jnp.where(on, old, new)

        def kept(flags: PyTree, old: PyTree, new: PyTree) -> PyTree:
            return jax.tree.map(keep, flags, old, new, is_leaf=lambda x: x is None)

        nothing = jax.tree.map(jnp.zeros_like, moved)
        return kept(held, nothing, moved), kept(of_state, state, new)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _is_masked(of_leaf: Any) -> bool:
    """Whether this is where a part of an optimiser leaves out a parameter."""
    return isinstance(of_leaf, optax.MaskedNode)


def _held(present: dict[str, Array], reaches: dict[str, PyTree]) -> PyTree:
    """For each leaf: bool, whether only absent heads reach it; None if none does."""
    names = sorted(present)

    def leaf(*flags: bool) -> Array | None:
        mine = [present[n] for n, on in zip(names, flags, strict=True) if on]
        if not mine:
            return None
        return ~jnp.any(jnp.stack([jnp.asarray(here, bool) for here in mine]))

    return jax.tree.map(leaf, *(reaches[name] for name in names))
