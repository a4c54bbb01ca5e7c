"""The functional view of an NNX model: a pure `apply` and two plain pytrees.

NNX models are objects that change when called; transforms, optimisers, checkpoints
and sweeps want functions of values. This file goes from one to the other and back.
It knows nothing about heads, losses or training.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import jax
from flax import nnx
from jax import numpy as jnp

from headwise import _checks

Model = TypeVar("Model", bound=nnx.Module)


class Functional(NamedTuple):
    """A model as a pure function and its values; what `functional` returns.

    Example:
        >>> from flax import nnx
        >>> from headwise.nn import functional
        >>> model = functional(nnx.Linear(2, 1, rngs=nnx.Rngs(0)))
        >>> model._fields
        ('apply', 'params', 'rest')
        >>> sorted(model.params), model.rest
        (['bias', 'kernel'], {})
    """

    apply: Callable[..., tuple[Any, Any]]
    """`apply(params, rest, *args, train=True, **kwargs)` -> `(outputs, new_rest)`;
    pure: it changes none of its arguments"""
    params: dict[Any, Any]
    """nested dict of the trainable arrays (every `nnx.Param`); the keys are attribute
    names and list positions: the path of a leaf reads `trunk/layers/0/kernel`"""
    rest: dict[Any, Any]
    """nested dict of all other values: running statistics, and the keys and counters
    of random streams"""


def functional(model: nnx.Module, *, dtype: Any = None) -> Functional:
    """A pure function and plain parameters for an NNX model.

    With `apply, params, rest = functional(model)`::

        outputs, new_rest = apply(params, rest, x)

    is `model.train(); outputs = model(x)`, and with `train=False` it is
    `model.eval(); outputs = model(x)`; `new_rest` holds what the call changed.

    Args:
        model: any NNX module. It is read once and never changed.
        dtype: what the model computes in, such as `jnp.bfloat16` (mixed precision):
            `apply` casts parameters and floating arguments to it, and outputs of it
            back to float32, for the losses. Parameters, their gradients and running
            statistics stay in float32. A layer with a `dtype` of its own keeps that.
            None: as the layers say. float16 wants a loss scale
            (`hw.training.dynamic_loss_scale`).

    Returns:
        `Functional(apply, params, rest)`. `params` and `rest` are dicts of arrays with
        a fixed structure, shape and dtype: they differentiate, vmap, scan and
        checkpoint.

        - In training, BatchNorm updates its running statistics in `new_rest`, and
          Dropout draws anew at each call because its counter in `new_rest` goes up. The
          same `rest` gives the same draw. With `train=False` neither acts.
        - A parameter used in several places (tied weights) is one leaf, at the path
          where it appears first.
        - Values that the call adds to the model (such as `sow`) are not in `new_rest`,
          and changes that the call makes to parameters are dropped.
        - `train` sets a mode; it is not passed on to the model's own call. All other
          arguments are.

    Raises:
        TypeError: `model` is not an NNX module, or `dtype` no dtype.
        ValueError: `dtype` is not floating; `apply` gets `params` or `rest` with
            missing or unknown paths.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import functional
        >>> apply, params, rest = functional(nnx.BatchNorm(1, rngs=nnx.Rngs(0)))
        >>> x = jnp.array([[1.0], [3.0]])
        >>> y, new_rest = apply(params, rest, x)
        >>> print(y.round(2).tolist())  # mean 2, standard deviation 1
        [[-1.0], [1.0]]
        >>> print(new_rest["mean"])  # 0.99 * 0 + 0.01 * 2
        [0.02]
        >>> grads = jax.grad(lambda p: apply(p, rest, x)[0].sum())(params)
        >>> print(grads["bias"].tolist())
        [2.0]
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype: expected a floating one, got {jnp.dtype(dtype)}")
    graphdef, params, rest = _split(model)
    params_like, rest_like = _shapes(params), _shapes(rest)

    def apply(params, rest, /, *args, train: bool = True, **kwargs):
        params = _conform(params, params_like, "params")
        rest = _conform(rest, rest_like, "rest")
        if dtype is not None:
            params, args, kwargs = _cast((params, args, kwargs), dtype)
        # copy=True: without it, a call that changes a variable fails inside jax.grad
        # and, when eager, changes the caller's arrays.
        called = nnx.merge(graphdef, params, rest, copy=True)
        if train:
            called.train()
        else:
            called.eval()
        outputs = called(*args, **kwargs)
        new_rest = _select(_split(called)[2], rest_like)
        if dtype is not None:
            outputs = _cast(outputs, jnp.float32, jnp.dtype(dtype))
            new_rest = jax.tree.map(
                lambda new, old: _cast(new, old.dtype), new_rest, rest
            )
        return outputs, new_rest

    return Functional(apply, params, rest)


def unite(model: Model, params: Any, rest: Any = None) -> Model:
    """A copy of an NNX model with other values, such as trained ones.

    The way back from `functional`::

        model ≡ unite(model, *functional(model)[1:])

    Args:
        model: the NNX module that `functional` was called on, or one built alike. It is
            not changed; its train/eval mode is copied.
        params: nested dict as in `Functional.params`. List positions may be text ("0"),
            as they are after a round trip through JSON.
        rest: nested dict as in `Functional.rest`; None keeps the model's own.

    Returns:
        A new module of the same type.

    Raises:
        TypeError: `model` is not an NNX module.
        ValueError: paths are missing or unknown, or a shape differs (the path, the
            expected and the given shape are printed).

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> from jax import numpy as jnp
        >>> from headwise.nn import functional, unite
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> ones = jax.tree.map(jnp.ones_like, functional(model).params)
        >>> print(unite(model, ones)(jnp.array([[3.0, 4.0]])).tolist())  # 3 + 4 + 1
        [[8.0]]
    """
    graphdef, own_params, own_rest = _split(model)
    params = _conform(params, own_params, "params", shapes=True)
    rest = _conform(own_rest if rest is None else rest, own_rest, "rest", shapes=True)
    return nnx.merge(graphdef, params, rest, copy=True)


def _split(model: Any) -> tuple[Any, dict[Any, Any], dict[Any, Any]]:
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model: expected an nnx.Module, got {_checks.kind(model)}{_way_out(model)}"
        )
    graphdef, *states = nnx.split(model, nnx.Param, ...)
    params, rest = states
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def _way_out(model: Any) -> str:
    """What makes a function of a model of another library."""
    if isinstance(model, type):
        return "; make one of it first"
    homes = {cls.__module__.split(".")[0:2][-1] for cls in type(model).__mro__}
    if "linen" in homes:
        return (
            "; a Linen module is a pure function already: call "
            "model.apply(params, inputs) in values_fn"
        )
    return ""


def _shapes(tree: Any) -> Any:
    """The structure alone, so that `apply` keeps no arrays alive."""
    return jax.tree.map(jnp.shape, tree)


def _cast(tree: Any, dtype: Any, only: Any = None) -> Any:
    """Floating arrays in another dtype: all of them, or those of one dtype only."""

    def cast(x: Any) -> Any:
        of = getattr(x, "dtype", None)
        floating = of is not None and jnp.issubdtype(of, jnp.floating)
        return x.astype(dtype) if floating and only in (None, of) else x

    return jax.tree.map(cast, tree)


def _conform(tree: Any, like: Any, argument: str, shapes: bool = False, path="") -> Any:
    """`tree` with the keys of `like`; raises with the paths at which they differ.

    NNX would fail on a wrong structure with an internal error that names no argument.
    """
    if not isinstance(like, dict):
        if isinstance(tree, dict):
            raise ValueError(f"{argument}: expected an array at {path}, got a dict.")
        if shapes and jnp.shape(tree) != jnp.shape(like):
            raise ValueError(
                f"{argument}: expected shape {jnp.shape(like)} at {path}, "
                f"got {jnp.shape(tree)}"
            )
        return tree
    if not isinstance(tree, dict):
        where = f" at {path}" if path else ""
        raise ValueError(
            f"{argument}: expected a dict with keys {_names(like)}{where}, "
            f"got {type(tree).__name__}"
        )
    given = {str(key): value for key, value in tree.items()}
    expected = {str(key) for key in like}
    if set(given) != expected:
        raise ValueError(
            f"{argument}: expected keys {_names(like)}"
            f"{f' at {path}' if path else ''}, got {_names(tree)}; "
            f"missing {sorted(expected - set(given))}, "
            f"unknown {sorted(set(given) - expected)}"
        )
    return {
        key: _conform(
            given[str(key)], value, argument, shapes, f"{path}/{key}".lstrip("/")
        )
        for key, value in like.items()
    }


def _names(tree: dict[Any, Any]) -> list[str]:
    return sorted(str(key) for key in tree)


def _select(tree: Any, like: Any) -> Any:
    """The part of `tree` at the paths of `like`: what a call added is left out."""
    if not isinstance(like, dict):
        return tree
    return {key: _select(tree[key], value) for key, value in like.items()}
