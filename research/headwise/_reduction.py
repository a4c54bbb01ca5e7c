"""From a head's loss and its data to one entry an example and position.

The rule is in one place, since `Objective` and `losses.mix` both need it: which
entries there are, which of them count, and how a mask reaches a loss. The losses of
the library declare what they return (`values_per`); of others it is guessed from
parameters and shapes.
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Literal
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _numerics
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

Layout = Literal["example", "class", "position", "entry"]
LossFn = TypeVar("LossFn", bound=Callable[..., Array])


def values_per(layout: Layout) -> Callable[[LossFn], LossFn]:
    """Declares of what a loss returns one value each, and that it masks by itself.

    "example" [B], "class" [B, C], "position" [B, *S], "entry" the shape of preds.
    With `over_batch=True` the first two have no axis of the batch; `background=False`
    leaves C - 1 classes. The function stays as it is, but for an attribute
    `values_per`.
    """

    def declare(loss: LossFn) -> LossFn:
        loss.__dict__["values_per"] = layout
        return loss

    return declare


def layout_of(loss: Loss) -> Layout | None:
    """What a loss declares, through `functools.partial` too; None if it is foreign."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return getattr(loss, "values_per", None)


def _parameters(loss: Loss) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}


def takes_where(loss: Loss) -> bool:
    """Whether the loss masks by itself: it declares so, or has a keyword-only `where`.

    In optax's losses `where` means the classes of one example, to be left out of the
    reduction over `axis`. It is no mask over examples and positions, and is left
    alone: there it is not keyword-only or stands beside a parameter `axis`.
    """
    if layout_of(loss) is not None:
        return True
    parameters = _parameters(loss)
    parameter = parameters.get("where")
    if parameter is None or "axis" in parameters:
        return False
    return parameter.kind is parameter.KEYWORD_ONLY


def ignored_label(loss: Loss) -> int | None:
    """The label that a loss ignores: what its keyword-only `ignore` is bound to.

    `functools.partial(hw.losses.cross_entropy, ignore=255)` ignores 255; positions
    with that label then do not count in means either.
    """
    ignored = _bound(loss, "ignore")
    return int(ignored) if isinstance(ignored, int | np.integer) else None


def _bound(loss: Loss, option: str) -> Any:
    """What a keyword-only option is bound to; None if the loss has no such option."""
    parameter = _parameters(loss).get(option)
    if parameter is None or parameter.kind is not parameter.KEYWORD_ONLY:
        return None
    return parameter.default


def _without_ignored(
    loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> Array | None:
    """The mask without the positions whose label the loss ignores.

    They are no part of means either, so the mask has to say so before the loss runs.
    """
    ignored = ignored_label(loss)
    if ignored is None or not takes_where(loss):
        return where
    labels = jnp.asarray(targets)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        return where  # the loss itself says that it needs labels
    kept = labels != ignored
    if where is None:
        return kept
    where = jnp.asarray(where)
    ndim = max(kept.ndim, where.ndim)
    shape = jnp.broadcast_shapes(
        *(x.shape + (1,) * (ndim - x.ndim) for x in (kept, where))
    )
    return align("where", where, shape) & align("targets", kept, shape)


def _fits(mask: Array, shape: tuple[int, ...]) -> bool:
    return mask.ndim <= len(shape) and all(
        m in (1, s) for m, s in zip(mask.shape, shape, strict=False)
    )


def align(argument: str, mask: Array, shape: tuple[int, ...]) -> Array:
    """The mask with axes of length 1 appended, so that it broadcasts to the shape.

    Masks and per-example weights are aligned at the batch: [B] covers [B, *S].
    """
    if not _fits(mask, shape):
        raise ValueError(
            f"{argument}: expected a shape that broadcasts, from the batch on, to "
            f"{shape}; got {mask.shape}"
        )
    return mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))


def _hide(tree: PyTree, where: Array) -> PyTree:
    """The arrays with zeros where the mask is False; no gradient passes there."""

    def hide(x: Array) -> Array:
        ndim = min(where.ndim, x.ndim)
        if where.shape[ndim:] != (1,) * (where.ndim - ndim):
            return x
        mask = align("where", where.reshape(where.shape[:ndim]), x.shape)
        return jnp.where(mask, x, jnp.zeros_like(x))

    return jax.tree.map(hide, tree)


def _keeps_positions(
    loss: Loss, preds: Array, targets: PyTree, where: Array, shape: tuple[int, ...]
) -> bool:
    """Whether values of this shape are one a position: [B, *S], or like preds.

    Values [B, C] of a loss that sums over its one spatial axis look the same if that
    axis is as long as the classes. Then the loss is asked, by shapes alone, what it
    returns for one position more.
    """
    if shape not in (preds.shape, preds.shape[:-1]):
        return False
    classes = preds.shape[-1]
    if (preds.ndim, len(shape)) != (3, 2) or shape[1] not in (classes, classes - 1):
        return True

    def longer(x: Array) -> jax.ShapeDtypeStruct:
        same = x.ndim < 2 or x.shape[1] != shape[1]
        longer = x.shape if same else (x.shape[0], shape[1] + 1, *x.shape[2:])
        return jax.ShapeDtypeStruct(longer, x.dtype)

    grown = jax.eval_shape(
        lambda p, t, w: loss(p, t, where=w),
        *jax.tree.map(longer, (preds, targets, where)),
    )
    return grown.shape[1:2] == (shape[1] + 1,)


def _which_count(
    loss: Loss, preds: PyTree, targets: PyTree, where: Array, shape: tuple[int, ...]
) -> Array:
    """Which values, of this shape, of a loss that masks by itself hold what counts.

    One a position counts as its position does, one an example (and class) if any of
    its positions does.
    """
    preds, targets = jax.tree.map(jnp.asarray, (preds, targets))
    counts = _by_declaration(loss, preds, where, shape)
    if counts is None:
        counts = _by_shapes(loss, preds, targets, where, shape)
    return jnp.broadcast_to(counts, shape)


def _by_declaration(
    loss: Loss, preds: PyTree, where: Array, shape: tuple[int, ...]
) -> Array | None:
    """The mask reduced to what the loss declares that it returns.

    None if it declares nothing, or returned something else: a function that wraps a
    loss of ours may have its attributes and reduce further.
    """
    layout, positions = layout_of(loss), where
    if layout is None:
        return None
    over_batch = layout in ("example", "class") and bool(_bound(loss, "over_batch"))
    if layout != "example":
        if not isinstance(preds, jax.Array) or not _fits(where, preds.shape):
            return None
        positions = align("where", where, preds.shape)
    first, ndim = 0 if over_batch else 1, positions.ndim
    if layout == "example":
        counts = jnp.any(positions, tuple(range(first, ndim)))
    elif layout == "class":
        counts = jnp.any(positions, tuple(range(first, ndim - 1)))
        if shape and counts.shape[-1] == shape[-1] + 1:  # the background is dropped
            counts = counts[..., 1:]
    else:
        counts = positions if layout == "entry" else jnp.any(positions, -1)
    fits = counts.ndim == len(shape) and _fits(counts, shape)
    return counts if fits else None


def _by_shapes(
    loss: Loss, preds: PyTree, targets: PyTree, where: Array, shape: tuple[int, ...]
) -> Array:
    """The same for a foreign loss: guessed from the shapes of preds and values.

    Nothing is known of it but that it takes `where`.
    """
    if isinstance(preds, jax.Array) and _fits(where, preds.shape):
        where = align("where", where, preds.shape)
        if _keeps_positions(loss, preds, targets, where, shape):
            return jnp.any(where, -1) if len(shape) < preds.ndim else where
        if preds.ndim > 1 and len(shape) == 2 and shape[0] == preds.shape[0]:
            of_class = jnp.any(where, tuple(range(1, preds.ndim - 1)))
            if of_class.shape[1] == shape[1] + 1:  # the background is dropped
                of_class = of_class[:, 1:]
            if of_class.shape[1] in (1, shape[1]):
                return of_class
    if where.ndim:
        where = jnp.any(where, tuple(range(1, where.ndim)))
    if not _fits(where, shape):
        where = jnp.any(where)
    return where.reshape(where.shape + (1,) * (len(shape) - where.ndim))


def entries(
    name: str, loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> tuple[Array, Array | None]:
    """The unreduced values of a loss and, if masked, which of them count.

    Args:
        name: of the head, for errors.
        loss: `loss(preds, targets)`, with `where=` if it masks by itself; a label
            that its `ignore=` is bound to does not count (`ignored_label`).
        preds: array or pytree with the batch as leading axis.
        targets: likewise.
        where: None or bool, broadcastable from the batch on to the values or, for a
            loss that takes `where`, to preds.

    Returns:
        values, at least float32, and a bool array of the same shape or None. Masked
        entries of values are 0 and pass no gradient.

    Raises:
        ValueError: the mask fits neither.
    """
    where = mask(name, loss, preds, targets, where)
    if where is None:
        values = jnp.asarray(loss(preds, targets))
        return values.astype(_numerics.accumulator(values)), None
    if takes_where(loss):
        values = jnp.asarray(loss(preds, targets, where=where))
    else:
        values = jnp.asarray(loss(_hide(preds, where), _hide(targets, where)))
    values = values.astype(_numerics.accumulator(values))
    valid = which_count(name, loss, preds, targets, where, values.shape)
    return jnp.where(valid, values, jnp.zeros_like(values)), valid


def mask(
    name: str, loss: Loss, preds: PyTree, targets: PyTree, where: Array | None
) -> Array | None:
    """The mask of a head, without what its loss ignores; None if all counts."""
    where = _without_ignored(loss, preds, targets, where)
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where of head {name!r}: expected bool, got {where.dtype}")
    return where


def which_count(
    name: str,
    loss: Loss,
    preds: PyTree,
    targets: PyTree,
    where: Array,
    shape: tuple[int, ...],
) -> Array:
    """Which of a loss's values, of this shape, count: bool, of this shape.

    No number of preds is looked at, so that the loss need not run for it.
    """
    if takes_where(loss):
        return _which_count(loss, preds, targets, where, shape)
    if where.ndim > len(shape):
        raise ValueError(
            f"where of head {name!r}: its shape {where.shape} masks positions that the "
            f"loss has reduced to {shape}; such a loss must take a keyword-only "
            "argument `where`"
        )
    valid = align(f"where of head {name!r}", where, shape)
    return jnp.broadcast_to(valid, shape)


def coupling(loss: Loss, preds: PyTree, shape: tuple[int, ...]) -> str | None:
    """Why a loss whose values have this shape is no mean over examples, or None.

    It says `over_batch=True`, or its values have no axis of the batch.
    """
    leaves = jax.tree.leaves(preds)
    if not leaves or not jnp.ndim(leaves[0]):
        return None  # no batch is known of
    bare = loss
    while isinstance(bare, functools.partial):
        bare = bare.func
    called = getattr(bare, "__name__", type(bare).__name__)
    if layout_of(loss) in ("example", "class") and bool(_bound(loss, "over_batch")):
        return f"the loss {called!r} has over_batch=True"
    if shape[:1] != jnp.shape(leaves[0])[:1]:
        return f"the loss {called!r} returns shape {shape}, not one value an example"
    return None


def mean(values: Array, valid: Array | None, axis: tuple[int, ...] | None) -> Array:
    """Mean over the entries that count; 0 where none does, or none is there."""
    if valid is None and values.size:
        return jnp.mean(values, axis)
    if valid is None:
        valid = jnp.ones(values.shape, bool)
    count = jnp.sum(valid, axis, dtype=values.dtype)
    return _numerics.safe_divide(jnp.sum(values, axis), count, 0.0)
