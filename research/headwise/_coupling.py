"""Whether what is masked can be seen in the values that count.

A loss that takes no mask is handed zeros for what is masked. That is right if each of
its values looks at its own entries alone; one that couples examples (Cox, contrastive)
would find the zeros in the sums of the others. `reaches` tells: most losses by their
program, in which every operation keeps the axes of the mask; the rest by a try, once a
trace, on numbers made up. In doubt the answer is no.

Example:
    >>> from headwise import _coupling
    >>> def hide(tree, where):
    ...     return jax.tree.map(lambda x: jnp.where(where, x, 0), tree)
    >>> p, mask = jnp.ones(4), jnp.ones(4, bool)
    >>> _coupling.reaches(lambda p, t: (p - t) ** 2, p, p, mask, hide)
    False
    >>> _coupling.reaches(lambda p, t: p / jnp.sum(t), p, p, mask, hide)
    True
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from headwise import _declared
from headwise import _shapes
from headwise import _traced
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

_ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "add",
        "add_any",
        "and",
        "asin",
        "atan",
        "atan2",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "name",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "pow",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
_ALONG = frozenset(["cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"])
_CALLS = frozenset(
    ["checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit"]
)


def reaches(
    loss: Callable[..., Array],
    preds: PyTree,
    targets: PyTree,
    where: Array,
    hide: Callable[[PyTree, Array], PyTree],
) -> bool:
    """Whether values of a loss change with what lies where the mask is False.

    Args:
        loss: `(preds, targets) -> values` that start with the axes of the mask.
        preds, targets, where: arrays of their shapes; only the shapes are looked at.
        hide: `(tree, mask) -> tree`, what the loss is given in place of what is masked.
    """
    ndim = where.ndim
    while ndim and where.shape[ndim - 1] == 1:
        ndim -= 1
    if where.size < 2:
        return False
    try:
        program = _traced.traced(loss, preds, targets)
        traced = [isinstance(c, jax.core.Tracer) for c in program.program.consts]
        if any(traced) or keeps_axes(program.program, ndim):
            return False
        return _differs(program, (preds, targets), where.shape, hide)
    except Exception:  # what it needs is there only when it runs: axes of a mesh, say
        return False


def keeps_axes(program: Any, ndim: int) -> bool:
    """Whether all operations keep the first axes of what comes from the inputs."""
    return _kept(program, [True] * len(program.jaxpr.invars), ndim) is not None


def _kept(program: Any, moved: Sequence[bool], ndim: int) -> list[bool] | None:
    """Which outputs come from the inputs in question; None if one loses its axes."""
    jaxpr = program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
    known = {v for v, m in zip(jaxpr.invars, moved, strict=True) if m and v.aval.shape}

    def comes(atom: Any) -> bool:
        return not isinstance(atom, core.Literal) and atom in known

    for eqn in jaxpr.eqns:
        given = [comes(v) for v in eqn.invars]
        if not any(given):
            continue
        outputs: list[bool] | None
        if eqn.primitive.name in _CALLS:
            kinds = core.Jaxpr | core.ClosedJaxpr
            inside = [v for v in eqn.params.values() if isinstance(v, kinds)]
            outputs = _kept(inside[0], given, ndim) if len(inside) == 1 else None
        else:
            keeps = _keeps(eqn, given, ndim)
            outputs = [True] * len(eqn.outvars) if keeps else None
        if outputs is None:
            return None
        known.update(v for v, m in zip(eqn.outvars, outputs, strict=True) if m)
    return [comes(v) for v in jaxpr.outvars]


def _keeps(eqn: Any, given: Sequence[bool], ndim: int) -> bool:
    """Whether an operation leaves the first axes of its inputs where they are."""
    name, params = eqn.primitive.name, eqn.params
    of = [v.aval.shape for v, comes in zip(eqn.invars, given, strict=True) if comes]
    shape, out = of[0], eqn.outvars[0].aval.shape
    first = min(ndim, len(shape))
    if any(other[:first] != shape[:first] for other in of):
        return False
    if name in _ELEMENTWISE:
        return out[:first] == shape[:first]
    if out[:first] != shape[:first]:
        return False
    if name.startswith(("reduce_", "arg")) and "axes" in params:
        return all(axis >= first for axis in params["axes"])
    if name in _ALONG or name == "sort" or name == "concatenate":
        axis = params.get("axis", params.get("dimension"))
        return axis is not None and axis >= first
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][:first] == tuple(range(first))
    if name in ("reshape", "squeeze", "slice", "expand_dims"):
        return True
    if name == "transpose":
        return tuple(params["permutation"][:first]) == tuple(range(first))
    if name == "gather":
        numbers, axes = params["dimension_numbers"], tuple(range(first))
        batching = numbers.operand_batching_dims, numbers.start_indices_batching_dims
        return all(tuple(dims)[:first] == axes for dims in batching)
    return False


def _differs(
    program: Callable[..., Array], like: PyTree, shape: tuple[int, ...], hide: Callable
) -> bool:
    """Whether made-up numbers at every other place of a mask change the rest."""
    rng = np.random.default_rng(0)
    kept = (np.arange(np.prod(shape)) % 2 == 0).reshape(shape)
    with jax.ensure_compile_time_eval():
        shown = jax.tree.map(lambda x: _made_up(rng, x.shape, x.dtype), like)
        run = jax.jit(program)
        one, other = (
            np.asarray(run(*arrays), np.float64)
            for arrays in (shown, hide(shown, jnp.asarray(kept)))
        )
    there = kept.reshape(kept.shape + (1,) * (one.ndim - kept.ndim))
    there = np.broadcast_to(there, one.shape)
    return not np.allclose(one[there], other[there], 1e-3, 1e-5, equal_nan=True)


def _made_up(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Numbers that most losses take: in (0, 1), or labels 0 and 1."""
    floating = jnp.issubdtype(dtype, jnp.floating)
    numbers = rng.uniform(0.1, 0.9, shape) if floating else rng.integers(0, 2, shape)
    return jnp.asarray(numbers, dtype)


def reason(loss: Loss, preds: PyTree, shape: tuple[int, ...]) -> str | None:
    """Why a loss whose values have this shape is no mean over examples, or None.

    It, or a loss that it is made of, says `over_batch=True`, or its values have no axis
    of the batch.
    """
    leaves = jax.tree.leaves(preds)
    if not leaves or not jnp.ndim(leaves[0]):
        return None  # no batch is known of
    reasons: list[str] = []

    def ask(part: Loss) -> Loss:
        if _declared.layout_of(part) in ("example", "class") and _declared.bound(
            part, "over_batch"
        ):
            reasons.append(f"the loss {_shapes.loss_name(part)!r} has over_batch=True")
        remade = getattr(_declared.itself(part), "remade", None)
        if remade is not None:
            remade(ask)
        return part

    ask(loss)
    if not reasons and shape[:1] != jnp.shape(leaves[0])[:1]:
        reasons.append(
            f"the loss {_shapes.loss_name(loss)!r} returns shape {shape}, not one "
            "value an example"
        )
    return reasons[0] if reasons else None
