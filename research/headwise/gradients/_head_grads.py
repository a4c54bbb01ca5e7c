"""One gradient pytree a head, from one forward pass."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _means
from headwise import _trees
from headwise import _values_fn
from headwise.gradients import _backward
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

FEATURES = "features"


def check_values(values: Any) -> None:
    """Raises unless the result of a values_fn is {name: real floating scalar}."""
    if not isinstance(values, Mapping):
        raise TypeError(
            "values_fn: expected it to return {name of head: scalar}, got "
            f"{_checks.kind(values)}{_way_out(values)}"
        )
    _checks.head_names("names of the heads that values_fn returns", values)
    for name, value in values.items():
        shape, dtype = jnp.shape(value), jnp.result_type(value)
        if shape != ():
            raise ValueError(
                f"values_fn: expected a scalar for head {name!r}, got shape {shape}"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"values_fn: expected a floating value for head {name!r}, got {dtype}"
            )


def _way_out(returned: Any) -> str:
    """What a user may have meant who returned something else than a dict."""
    if isinstance(returned, tuple) and len(returned) == 2:
        if isinstance(returned[0], Mapping):
            return (
                " (with an auxiliary result: has_aux=True; with a rest: stateful=True)"
            )
        if isinstance(returned[1], Mapping):
            return " whose second entry is a dict: return that alone, without a total"
    if isinstance(returned, tuple | list):
        return "; nothing goes by position: hw.named(names, values) names them"
    scalar = isinstance(returned, jax.Array | float) and jnp.ndim(returned) == 0
    return "; give it a name: {'loss': value}" if scalar else ""


def in_order(values: Mapping[str, Array]) -> dict[str, Array]:
    """A plain dict in sorted name order."""
    return {name: values[name] for name in sorted(values)}


def with_aux(
    values_fn: ValuesFn, has_aux: bool, stateful: bool = False
) -> Callable[..., tuple[dict, Any]]:
    """`values_fn` as a function that always returns ({name: scalar}, aux), checked.

    Args:
        values_fn: as in `hw.head_grads`.
        has_aux: it returns (values, aux); without, aux is None.
        stateful: it is `(params, rest, batch, key) -> (values, rest)`; the rest that
            comes back is the aux.

    Returns:
        A function of the same arguments; the values are a plain dict in sorted order,
        without what `hw.Means` tells beside them.

    Raises:
        TypeError: `values_fn` is no callable, `has_aux` or `stateful` no bool.
        TypeError, ValueError: when called, as `hw.head_grads`.

    Example:
        >>> hw.gradients.with_aux(lambda p: {"b": 2.0 * p, "a": p}, False)(1.5)
        ({'a': 1.5, 'b': 3.0}, None)
    """
    model, beside = _values_fn.as_one(values_fn, has_aux, stateful)

    def plain(*args: Any, **kwargs: Any) -> tuple[dict, Any]:
        values, aux = _means.unpacked(model(*args, **kwargs), beside)
        check_values(values)
        return in_order(values), aux

    return plain


def with_tally(
    values_fn: ValuesFn, has_aux: bool, stateful: bool = False
) -> Callable[..., tuple[dict, tuple[Any, _means.Tally]]]:
    """`with_aux`, the aux being (aux, what is told beside the values)."""
    return with_aux(_means.with_tally(values_fn, has_aux, stateful), True)


def head_grads(
    values_fn: ValuesFn,
    has_aux: bool = False,
    *,
    stateful: bool = False,
    wrt: Any = None,
    method: str = "auto",
) -> Callable[..., tuple[Any, dict[str, PyTree]]]:
    """Transforms `values_fn` into a function that returns every head's gradient.

    For each head h, and for parameters shared or private alike::

        grads[h] = ∂ values[h] / ∂ params

    The model is linearised once. Then each backward pass visits only the path that
    leads to its head: the private parts of the heads, found from the program, cost one
    backward pass together, the shared part one a head. `jax.jacrev` visits everything
    for every head.

    Args:
        values_fn: `(params, *args, **kwargs) -> values`, values being {name: scalar};
            with `has_aux` it returns `(values, aux)`; with `stateful` it is
            `(params, rest, batch, key) -> (values, rest)`. params is any pytree of
            floating arrays.
        has_aux: as in `jax.grad`: aux is what else comes out of the model.
        stateful: the model has running statistics or draws random numbers, as in
            `hw.training.make_step`. All that takes a `values_fn` takes this word.
        wrt: what to differentiate with respect to. None: all parameters. A callable:
            the parameters for whose path it is true (`lambda path:
            path.startswith("trunk/3")`). A prefix of the parameters' tree with bool
            leaves: those with True. "features": the arrays that pass from the shared
            part of the model into a private one, in the order of the program (MGDA-UB,
            Sener and Koltun 2018, §3.3; `rep_grad` of LibMTL); no pass through the
            shared part then.
        method: how the heads go through the shared part. "sequential": one after the
            other, in hardly more memory than a plain backward pass needs. "batched":
            stacked, so that there are fewer and larger operations, but H cotangents of
            every activation. "auto": batched on accelerators, and on CPU where the
            model has batched products (attention) and multiplies by no parameter of
            more than 2^18 entries; head_gradients.md has the measurements. Heads
            that differ in data alone (columns of one output, decoders of one kind) are
            one program from 16 on, in every method; "auto" runs it for some at a time.
            What has no rule for stacks (`jax.lax.ragged_dot`) goes head by head.

    Returns:
        A function of the same arguments that returns `(values, grads)`, with `has_aux`
        `((values, aux), grads)`, with `stateful` `((values, rest), grads)`. `values` is
        in sorted order, and `hw.Means` where `values_fn` returns that. `grads` is
        {name: pytree like params}, dtypes as in params, None at leaves that `wrt`
        leaves out; with "features" {name: list of arrays}. A head that reaches no
        parameter has gradient zero. NaN in one head stays in its own gradient.

    Raises:
        TypeError: `values_fn` is no callable, or returns no dict or no floating value;
            params holds a leaf that is not floating (its path is named).
        ValueError: a value is not a scalar; params is empty; `wrt` selects nothing;
            unknown `method`; the model writes an array in place (`jax.new_ref`);
            `has_aux` with `stateful`.

    Example:
        >>> def values_fn(p):
        ...     return {"y1": p["b"] * p["c"], "y2": p["b"] * p["d"] ** 2}
        >>> values, grads = hw.head_grads(values_fn)({"b": 2.0, "c": 3.0, "d": 5.0})
        >>> print({name: float(value) for name, value in values.items()})
        {'y1': 6.0, 'y2': 50.0}
        >>> print({name: float(g) for name, g in grads["y1"].items()})
        {'b': 3.0, 'c': 2.0, 'd': 0.0}
        >>> print({name: float(g) for name, g in grads["y2"].items()})
        {'b': 25.0, 'c': 0.0, 'd': 20.0}

        A stateful model, and what it hands on:

        >>> def counting(p, rest, batch, key):
        ...     return {"y": p * batch}, rest + 1
        >>> f = hw.head_grads(counting, stateful=True)
        >>> (values, rest), grads = f(2.0, 0, 3.0, jax.random.key(0))
        >>> print(values["y"], rest, grads["y"])
        6.0 1 3.0
    """
    _checks.choice("method", _backward.ROWS, method)
    plain = with_tally(values_fn, has_aux, stateful)
    beside = has_aux or stateful

    def transformed(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, dict]:
        _trees.check_floating("params", params)
        features = isinstance(wrt, str) and wrt == FEATURES
        flags = None if features else _trees.selected("wrt", wrt, params)
        plain_values, (aux, tally), backward = _backward.linearize(
            plain, params, *args, **kwargs
        )
        values = _means.together(plain_values, tally)
        if flags is None:
            rows = backward.feature_rows()
        else:
            structure = jax.tree.structure(params)
            rows = [
                jax.tree.unflatten(
                    structure,
                    [g if flag else None for g, flag in zip(row, flags, strict=True)],
                )
                for row in backward.rows(method, flags)
            ]
        grads = dict(zip(backward.names, rows, strict=True))
        return ((values, aux) if beside else values), grads

    return transformed
