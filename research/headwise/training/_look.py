"""Looking: the forward pass of a batch, whole or in parts, and what it leaves to use.

Three ways, a class each. All know the `values`, `aux` and which leaves each head
`reaches`, and answer `gradients`: the gramian, and what the gradient to apply is made
of.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise import _traced
from headwise import _xla
from headwise import gradients
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree

Plain = Callable[..., tuple[dict[str, Array], Any]]
"""A values_fn as `hw.gradients.with_aux` makes it."""

Seen = tuple[Array, _head_gradients.HeadGradients]
"""[H, H] gramian, and what the gradient to apply is made of."""


class Whole(NamedTuple):
    """One batch, linearised once: every pass may still be run."""

    values: dict[str, Array]
    aux: Any
    backward: gradients.Backward

    def reaches(self) -> list[_layout.Flags]:
        """For each head, the leaves that it moves."""
        return self.backward.reaches()

    def keeps(self, stored: bool | None) -> bool:
        """Whether head gradients are worth their memory, unless it is `stored`."""
        if stored is not None:
            return stored
        return self.backward.rows_bytes <= max(
            _xla.KEPT_BYTES, self.backward.kept_bytes
        )

    def gradients(self, layout: _layout.Layout, kept: bool, method: str) -> Seen:
        """H passes; without `kept` none for features, and no gradient stays."""
        made_of = _of_backward(self.backward, layout, kept, method)
        if isinstance(layout.over, str):
            return _head_gradients.gramian(self.backward.feature_rows()), made_of
        if isinstance(made_of, _head_gradients.Kept):
            return made_of.gramian(layout.over), made_of
        return self.backward.gramian(layout.over, method), made_of


class Several(NamedTuple):
    """Independent batches, linearised one by one; the last is the one to step on."""

    values: dict[str, Array]
    """Means over the batches."""
    aux: Any
    """Of the last."""
    backwards: tuple[gradients.Backward, ...]

    @property
    def backward(self) -> gradients.Backward:
        """Of the last batch."""
        return self.backwards[-1]

    def reaches(self) -> list[_layout.Flags]:
        """For each head, the leaves that it moves."""
        return self.backward.reaches()

    def keeps(self, stored: bool | None) -> bool:
        """Whether the gramian needs the gradients of the last batch in any case."""
        return len(self.backwards) == 2

    def gradients(self, layout: _layout.Layout, kept: bool, method: str) -> Seen:
        """The gramian of the first with the second batch, H passes each."""
        assert not isinstance(layout.over, str)
        made_of = _of_backward(self.backward, layout, kept, method)
        first, second = self.backwards[:2]
        if len(self.backwards) == 2 and isinstance(made_of, _head_gradients.Kept):
            others = made_of.rows
        else:
            others = second.rows(method)
        gram = _head_gradients.crossed(first.rows(method), others, layout.over)
        return gram, made_of


class Accumulated(NamedTuple):
    """Microbatches, gone through one after the other: their means are what is left."""

    values: dict[str, Array]
    aux: Any
    """Of the last."""
    rows: _head_gradients.Rows
    reached: list[_layout.Flags]

    def reaches(self) -> list[_layout.Flags]:
        """For each head, the leaves that it moves."""
        return self.reached

    def keeps(self, stored: bool | None) -> bool:
        """The head gradients are there."""
        return True

    def gradients(self, layout: _layout.Layout, kept: bool, method: str) -> Seen:
        """No pass is left to run."""
        assert not isinstance(layout.over, str)
        made_of = _head_gradients.Kept(self.rows, layout.reached)
        return made_of.gramian(layout.over), made_of


Look = Whole | Several | Accumulated


def _of_backward(
    backward: gradients.Backward, layout: _layout.Layout, kept: bool, method: str
) -> _head_gradients.HeadGradients:
    if kept:
        return _head_gradients.Kept(backward.rows(method), layout.reached)
    return _head_gradients.OneMorePass(backward)


def whole(plain: Plain, params: PyTree, *args: Any) -> Whole:
    """One forward pass of the batch as it is."""
    return Whole(*gradients.linearize(plain, params, *args))


def several(
    plain: Plain, batches: int, params: PyTree, batch: Any, *others: Any
) -> Several:
    """A forward pass of each of so many equal parts; `plain` is traced once."""
    parts = parted("batches", batches, batch)
    first, *later = [jax.tree.map(lambda a, i=i: a[i], parts) for i in range(batches)]
    program = _traced.traced(lambda p, part: plain(p, part, *others), params, first)
    looks = [whole(program, params, part) for part in (first, *later)]
    values = jax.tree.map(
        lambda *v: _numerics.mean_of(v), *(look.values for look in looks)
    )
    return Several(values, looks[-1].aux, tuple(look.backward for look in looks))


def accumulated(
    plain: Plain, parts: int, method: str, params: PyTree, batch: Any, *others: Any
) -> Accumulated:
    """Values and head gradients, one microbatch after the other in a `lax.scan`."""
    reached: list[_layout.Flags] = []

    def one(part: Any) -> tuple[tuple[dict[str, Array], _head_gradients.Rows], Any]:
        look = whole(plain, params, part, *others)
        reached.extend(look.reaches())
        return (look.values, look.backward.rows(method)), look.aux

    batch = parted("microbatches", parts, batch)
    program = _traced.traced(one, jax.tree.map(lambda a: a[0], batch))
    (values, rows), aux = summed(program, program.types[0], batch)
    return Accumulated(values, aux, rows, reached)


def summed(
    run: Callable[[Any], tuple[PyTree, Any]], types: PyTree, parts: Any
) -> tuple[PyTree, Any]:
    """The mean over the parts of what `run` gives first, and its last second result.

    Sums are at least float32; the means have the types that one part's have.

    Args:
        run: a part of the batch to (what is averaged, aux).
        types: of what is averaged.
        parts: arrays whose leading axis counts the parts.
    """

    def add(total: PyTree, part: Any) -> tuple[PyTree, Any]:
        more, aux = run(part)
        return jax.tree.map(jnp.add, total, more), aux

    count = jax.tree.leaves(parts)[0].shape[0]
    zeros = jax.tree.map(
        lambda x: _numerics.full(x, 0, _numerics.accumulator(x)), types
    )
    total, aux = lax.scan(add, zeros, parts)
    mean = jax.tree.map(lambda x, like: (x / count).astype(like.dtype), total, types)
    return mean, jax.tree.map(lambda a: a[-1], aux)


def parted(argument: str, parts: int, batch: Any) -> Any:
    """The batch with a new leading axis of so many equal parts."""

    def cut(array: Array) -> Array:
        if not jnp.ndim(array) or array.shape[0] % parts:
            raise ValueError(
                f"{argument}: expected a number that divides the leading axis of "
                f"every array of the batch, got {parts} and shape {jnp.shape(array)}"
            )
        return jnp.reshape(array, (parts, -1, *array.shape[1:]))

    return jax.tree.map(cut, batch)
