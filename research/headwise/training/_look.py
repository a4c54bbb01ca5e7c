"""Looking: the forward pass of a batch, whole or in parts, and what it leaves to use.

Three ways, a class each. All know the `values`, what is told of them (`tally`), `aux`
and which leaves each head `reaches`, and answer `gradients`: the gramian, and what the
gradient to apply is made of. Who asks for the values of microbatches alone looks in
turn (`_in_turn.py`).
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax

from headwise import _means
from headwise import _means_of_parts
from headwise import _traced
from headwise import _xla
from headwise import gradients
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.training import _parts
from headwise.typing import Array
from headwise.typing import PyTree

Plain = Callable[..., tuple[dict[str, Array], tuple[Any, _means.Tally]]]
"""A values_fn as `_model.plain` makes it."""

Seen = tuple[Array, _head_gradients.HeadGradients]
"""[H, H] gramian, and what the gradient to apply is made of."""


class Whole(NamedTuple):
    """One batch, linearised once: every pass may still be run."""

    values: dict[str, Array]
    aux: Any
    tally: _means.Tally
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
            return made_of.gramian(layout.over, layout.axis_name), made_of
        return self.backward.gramian(layout.over, method), made_of


class Several(NamedTuple):
    """Independent batches, linearised one by one; the last is the one to step on."""

    values: dict[str, Array]
    """Means over the batches."""
    aux: Any
    """Of the last."""
    tally: _means.Tally
    """A head is present if it is in every batch: all are needed."""
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
        rows, axes = first.rows(method), layout.axis_name
        return _head_gradients.crossed(rows, others, layout.over, axes), made_of


class Accumulated(NamedTuple):
    """Microbatches, gone through one after the other: their means are what is left."""

    values: dict[str, Array]
    aux: Any
    """Of the last."""
    tally: _means.Tally
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
        return made_of.gramian(layout.over, layout.axis_name), made_of


Look = Whole | Several | Accumulated


def _of_backward(
    backward: gradients.Backward, layout: _layout.Layout, kept: bool, method: str
) -> _head_gradients.HeadGradients:
    if kept:
        return _head_gradients.Kept(backward.rows(method), layout.reached)
    return _head_gradients.OneMorePass(backward)


def whole(plain: Plain, params: PyTree, *args: Any) -> Whole:
    """One forward pass of the batch as it is."""
    values, (aux, tally), backward = gradients.linearize(plain, params, *args)
    return Whole(values, aux, tally, backward)


def several(
    plain: Plain,
    batches: int,
    params: PyTree,
    batch: Any,
    *others: Any,
    stateful: bool = False,
) -> Several:
    """A forward pass of each of so many equal parts; `plain` is traced once."""
    parts = _parts.parted("batches", batches, batch)
    model = of_part(plain, params, parts, others, stateful)
    looks: list[Whole] = []
    for i in range(batches):
        part = jax.tree.map(lambda a, i=i: a[i], parts)
        if stateful and looks:
            others = (looks[-1].aux, *others[1:])
        mine = _parts.others_of(i, others, stateful)
        looks.append(whole(model, params, part, *mine))
    looks[0].tally.refuse_coupled("batches")
    values, tally = _means_of_parts.added([(look.values, look.tally) for look in looks])
    backwards = tuple(look.backward for look in looks)
    return Several(values, looks[-1].aux, tally, backwards)


def accumulated(
    plain: Plain,
    parts: int,
    method: str,
    params: PyTree,
    batch: Any,
    *others: Any,
    stateful: bool = False,
) -> Accumulated:
    """Values and head gradients, one microbatch after the other in a `lax.scan`."""
    reached: list[_layout.Flags] = []

    def one(params: PyTree, part: Any, *others: Any) -> tuple[dict[str, PyTree], Any]:
        look = whole(plain, params, part, *others)
        reached.extend(look.reaches())
        rows = look.backward.rows(method)
        pairs = zip(look.values.values(), rows, strict=True)
        return dict(zip(look.values, pairs, strict=True)), (look.aux, look.tally)

    batch = _parts.parted("microbatches", parts, batch)
    pairs, aux, tally = _parts.of_whole(
        "microbatches", one, params, batch, *others, stateful=stateful
    )
    values = {name: value for name, (value, _) in pairs.items()}
    return Accumulated(values, aux, tally, [row for _, row in pairs.values()], reached)


def of_part(
    plain: Plain, params: PyTree, parts: Any, others: tuple, stateful: bool
) -> _traced.Traced:
    """What is done with a part."""
    mine = _parts.others_of(0, others, stateful)
    return _traced.traced(plain, params, _parts.first(parts), *mine)
