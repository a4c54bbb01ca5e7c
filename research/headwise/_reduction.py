"""From a head's loss and its data to one entry an example and position.

The rule is in one place, since `Objective` and the losses made of losses both need it:
which entries there are, which of them count, and how a mask reaches a loss. A loss is
asked what it declares (`values_per`, `made_of`, an option `ignore`), through
`functools.partial` and what `functools.wraps` wrapped. What it hides is read off its
program (`_marks`); the rest is guessed from parameters and shapes.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import TypeAlias

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _coupling
from headwise import _declared
from headwise import _look
from headwise import _marks
from headwise import _numerics
from headwise import _shapes
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

Entries: TypeAlias = _declared.Entries
values_per, made_of = _declared.values_per, _declared.made_of
layout_of, takes_where = _declared.layout_of, _declared.takes_where


def _masks_itself(loss: Loss, preds: PyTree, targets: PyTree, where: Array) -> bool:
    """`takes_where`, or hands `where` on to a loss of the library by `**options`."""
    if takes_where(loss):
        return True
    if layout_of(loss) is not None or not _declared.takes_any(loss):
        return False
    # What is behind may take none, or another one.
    return bool(_marks.read(lambda p, t: loss(p, t, where=where), preds, targets))


def both(where: Array | None, other: Array) -> Array:
    """Where both masks are True, each aligned at the batch."""
    if where is None:
        return other
    where = jnp.asarray(where)
    ndim = max(where.ndim, other.ndim)
    shape = jnp.broadcast_shapes(
        *(x.shape + (1,) * (ndim - x.ndim) for x in (other, where))
    )
    return align("where", where, shape) & align("where", other, shape)


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

    masks = takes_where(loss)
    grown = jax.eval_shape(
        lambda p, t, w: loss(p, t, where=w) if masks else loss(p, t),
        *jax.tree.map(longer, (preds, targets, where)),
    )
    return grown.shape[1:2] == (shape[1] + 1,)


def _which_count(
    loss: Loss, preds: PyTree, targets: PyTree, where: Array, shape: tuple[int, ...]
) -> Array:
    """Which values, of this shape, of a loss that sees the mask hold what counts.

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
    over_batch = layout in ("example", "class") and bool(
        _declared.bound(loss, "over_batch")
    )
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
    """The same for a foreign loss: guessed from the shapes of preds and values."""
    if isinstance(preds, jax.Array) and _fits(where, preds.shape):
        where = align("where", where, preds.shape)
        if _keeps_positions(loss, preds, targets, where, shape):
            return jnp.any(where, -1) if len(shape) < preds.ndim else where
        ndim, classes = len(shape), preds.shape[-1]
        leading = 1 < ndim < preds.ndim - 1 and shape == preds.shape[:ndim]
        if leading and shape[-1] not in (classes, classes - 1):
            return jnp.any(where, tuple(range(ndim, where.ndim)))
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


def _of_mark(
    loss: Loss, preds: PyTree, targets: PyTree, mask: Array, shape: tuple[int, ...]
) -> Array:
    """Which values of this shape hold what a mask in the program of the loss counts."""
    if isinstance(preds, jax.Array):
        if not _fits(mask, preds.shape):  # vmap leaves axes of length 1
            mask = mask.reshape(*mask.shape[:1], *(n for n in mask.shape[1:] if n > 1))
        if _fits(mask, preds.shape):
            return _which_count(loss, preds, targets, mask, shape)
    if not shape or mask.shape[: len(shape)] == shape:
        return jnp.any(mask, tuple(range(len(shape), mask.ndim)))
    raise ValueError(
        f"the loss leaves out what a mask of shape {mask.shape} inside of it says, "
        f"from which nothing is known of its values, shape {shape}; let it take a "
        "keyword-only `where`, or give the mask as `where`"
    )


def _left_out(
    loss: Loss,
    preds: PyTree,
    targets: PyTree,
    where: Array | None,
    shape: tuple[int, ...],
) -> Array | None:
    """Which values hold what the loss itself counts (`ignore`); None if it counts all.

    Asked of the loss if it says so, else read off its program.
    """
    preds, targets = jax.tree.map(jnp.asarray, (preds, targets))
    ignored, leaves = _declared.ignored_label(loss), jax.tree.leaves(targets)
    if not any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in leaves):
        return None  # there are no labels
    of_array = isinstance(targets, jax.Array)
    if ignored is not None and of_array and takes_where(loss):
        kept = both(where, targets != ignored)
        return _which_count(loss, preds, targets, kept, shape)
    if _declared.itself(loss) is not None:
        return None
    options = {"where": where} if where is not None and takes_where(loss) else {}
    found = [
        _of_mark(loss, preds, targets, mask, shape)
        for mask in _marks.read(lambda p, t: loss(p, t, **options), preds, targets)
    ]
    return functools.reduce(jnp.logical_or, found) if found else None


def entries(
    name: str,
    loss: Loss,
    preds: PyTree,
    targets: PyTree,
    where: Array | None,
    shown: Array | None = None,
) -> Entries:
    """The unreduced values of a loss and, if masked, which of them count.

    Args:
        name: of the head, for errors.
        loss: `loss(preds, targets)`, with `where=` if it masks by itself; a label
            that it ignores does not count.
        preds: array or pytree with the batch as leading axis.
        targets: likewise.
        where: None or bool, broadcastable from the batch on to the values or, for a
            loss that takes `where`, to preds.
        shown: like `where`: what the loss may see; it counts all the same.

    Returns:
        values, at least float32, and a bool array of the same shape or None. Masked
        entries of values are 0 and pass no gradient.

    Raises:
        ValueError: the mask fits neither; the values are larger than what they are of;
            the loss would see what is masked.
    """
    with (
        _told(name, loss, preds, targets),
        _look.at(name, loss, preds, targets, where),
    ):
        where = _given(name, loss, where)
        seen = where if shown is None else both(where, shown)
        made = getattr(_declared.itself(loss), "entries_of", None)
        if made is not None:
            values, valid = made(preds, targets, seen)
            if valid is not None and shown is not None:
                valid = made(preds, targets, where)[1]
            return values, valid
        values = _values(name, loss, preds, targets, seen)
        valid = _counted(name, loss, preds, targets, where, values.shape)
        if valid is None:
            return values, None
        return jnp.where(valid, values, jnp.zeros_like(values)), valid


def counted(
    name: str,
    loss: Loss,
    preds: PyTree,
    targets: PyTree,
    where: Array | None,
    shape: tuple[int, ...],
) -> Array | None:
    """Which values of `entries`, of this shape, count; None if all do.

    No number of preds is looked at: under jit the loss does not run for it.
    """
    where = _given(name, loss, where)
    made = getattr(_declared.itself(loss), "entries_of", None)
    if made is not None:
        valid: Array | None = made(preds, targets, where)[1]
        return valid
    return _counted(name, loss, preds, targets, where, shape)


def _given(name: str, loss: Loss, where: Array | None) -> Array | None:
    """The mask of a head, with the one that is bound to its loss."""
    bound = _declared.bound(loss, "where") if takes_where(loss) else None
    if bound is not None:
        where = both(where, jnp.asarray(bound))
    if where is None:
        return None
    where = _checks.array(f"where of head {name!r}", where)
    if where.dtype != bool:
        raise TypeError(f"where of head {name!r}: expected bool, got {where.dtype}")
    return where


def _values(
    name: str, loss: Loss, preds: PyTree, targets: PyTree, seen: Array | None
) -> Array:
    """The values of a loss that sees no more than the mask lets it."""
    foreign = layout_of(loss) is None
    if foreign:
        _shapes.check_ranks(loss, preds, targets)
        preds, targets = _numerics.wide((preds, targets))
    masks = seen is not None and _masks_itself(loss, preds, targets, seen)
    if seen is None:
        values = jnp.asarray(loss(preds, targets))
    elif masks:
        values = jnp.asarray(loss(preds, targets, where=seen))
    else:
        values = jnp.asarray(loss(_hide(preds, seen), _hide(targets, seen)))
    if foreign:
        _shapes.check_values(values, preds, targets)
    if (
        seen is not None
        and not masks
        and seen.ndim <= values.ndim
        and _coupling.reaches(loss, preds, targets, seen, _hide)
    ):
        raise ValueError(
            f"head {name!r}: each value of its loss depends on other entries too, and "
            "what a mask or a sample weight of 0 takes out would be zeros there; such "
            "a loss must take a keyword-only argument `where`"
        )
    return values.astype(_numerics.accumulator(values))


def _counted(
    name: str,
    loss: Loss,
    preds: PyTree,
    targets: PyTree,
    where: Array | None,
    shape: tuple[int, ...],
) -> Array | None:
    valid = None
    if where is not None and _masks_itself(loss, preds, targets, where):
        valid = _which_count(loss, preds, targets, where, shape)
    elif where is not None:
        if where.ndim > len(shape):
            raise ValueError(
                f"where of head {name!r}: its shape {where.shape} masks positions that "
                f"the loss has reduced to {shape}; such a loss must take a "
                "keyword-only argument `where`"
            )
        valid = align(f"where of head {name!r}", where, shape)
        valid = jnp.broadcast_to(valid, shape)
    kept = _left_out(loss, preds, targets, where, shape)
    if kept is None:
        return valid
    kept = jnp.broadcast_to(kept, shape)
    return kept if valid is None else valid & kept


@contextlib.contextmanager
def _told(name: str, loss: Loss, preds: PyTree, targets: PyTree) -> Iterator[None]:
    """An error from inside says in which head it came, and from which shapes."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"in the loss of {name!r}, {_shapes.loss_name(loss)}: "
            f"preds {_shapes.of(preds)}, targets {_shapes.of(targets)}"
        )
        raise


def mean(values: Array, valid: Array | None, axis: tuple[int, ...] | None) -> Array:
    """Mean over the entries that count; 0 where none does, or none is there."""
    if valid is None and values.size:
        return jnp.mean(values, axis)
    if valid is None:
        valid = jnp.ones(values.shape, bool)
    count = jnp.sum(valid, axis, dtype=values.dtype)
    return _numerics.safe_divide(jnp.sum(values, axis), count, 0.0)
