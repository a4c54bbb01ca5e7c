"""Batches for chunks: consecutive ones of one kind, stacked.

Those that come from the host are read while the device works on the ones before. What
was read and is not used is given back, and where the batches stand is known for the
steps that were handed out, not for what was read ahead.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise.training import _batch_programs
from headwise.training import _chunks


class Block(NamedTuple):
    """The batches of consecutive steps."""

    number: int
    kind: _chunks.Kind | None
    """None: it is one batch, which cannot be stacked."""
    still: list[Any]
    moving: list[Any]
    read: Sequence[tuple[Any, Any]]
    """Each batch as it came, and where the batches stood after it."""


class Made:
    """Batches that are made on the device."""

    at: Any = None

    def __init__(self, traced: _batch_programs.Traced):
        self._traced = traced
        self.one = traced.one
        self._next: tuple[int, Block] | None = None

    def apart(self) -> None:
        """Batches are asked for one by one from now on."""
        self.one = self._traced.apart

    def peek(self, t: int) -> Any:
        """The batch of a step."""
        return self._traced.one(t)

    def like(self, t: int) -> Any:
        """A batch of types."""
        return self._traced.kind.like

    @property
    def ready(self) -> _chunks.Kind:
        """The kind of the next block."""
        return self._traced.kind

    def block(self, t: int, most: int, room: int) -> Block:
        """The batches from step t on, at most so many."""
        (at, block), self._next = self._next or (t, None), None
        number = min(most, self._traced.room)
        if at == t and block is not None and 2 * block.number > number:
            return block._replace(number=min(block.number, number))
        moving = self._traced.stacked(t, number)
        return Block(number, self._traced.kind, [], moving, ())

    def ahead(self, t: int, most: int, room: int) -> None:
        """Makes a block that will be asked for, beside what the device does."""
        self._next = t, self.block(t, most, room)

    def unused(self) -> list[Any]:
        """None is read."""
        return []


class Read:
    """Batches that are read or made on the host.

    Args:
        batch_of: `batch_of(t)`, which is called once for each step, in order.
        position: says where the batches stand after those that were read.
        given: those of the first steps, which were read before.
        still: leaves that are the same array in every step, None for others.
    """

    def __init__(
        self,
        batch_of: Callable[[int], Any],
        position: Callable[[], Any],
        given: Iterable[Any] = (),
        still: list[Any] | None = None,
    ):
        self._batch_of, self._position, self._still = batch_of, position, still
        self._read = collections.deque((batch, None) for batch in given)
        self._next: Block | None = None
        self._error: Exception | None = None
        self._at: Any = None

    @property
    def at(self) -> Any:
        """Where the batches stand after those that were handed out."""
        ahead = self._read or self._next is not None
        return self._at if ahead else self._position()

    @property
    def ready(self) -> _chunks.Kind | None:
        """The kind of the next block, None if that is not read, or no stack."""
        return None if self._next is None else self._next.kind

    def peek(self, t: int) -> Any:
        """The batch of the next step, t, which is handed out later."""
        if not self._read:
            self._read.append(self._new(t))
        return self._read[0][0]

    like = peek

    def one(self, t: int) -> Any:
        """The batch of the next step, t."""
        self._put_back()
        if not self._read and self._error is None:
            return self._batch_of(t)
        batch, self._at = self._take(t)
        return batch

    def block(self, t: int, most: int, room: int) -> Block:
        """The batches from step t on, the next one.

        Args:
            t: step.
            most: of so many steps at most.
            room: in stacks for so many.
        """
        if self._next is None or self._next.number > most:
            self._put_back()
            self._next = self._stacked(t, most, room)
        block, self._next = self._next, None
        self._at = block.read[-1][1]
        return block

    def ahead(self, t: int, most: int, room: int) -> None:
        """Reads a block that will be asked for; an error comes when it is."""
        if self._error is None and self._next is None:
            try:
                self._next = self._stacked(t, most, room)
            except Exception as error:
                self._error = error

    def unused(self) -> list[Any]:
        """The batches that were read and not handed out."""
        self._put_back()
        return [batch for batch, _ in self._read]

    def _put_back(self) -> None:
        if self._next is not None:
            self._read.extendleft(reversed(self._next.read))
            self._next = None

    def _new(self, t: int) -> tuple[Any, Any]:
        if self._error is not None:
            raise self._error
        return self._batch_of(t), self._position()

    def _take(self, t: int) -> tuple[Any, Any]:
        return self._read.popleft() if self._read else self._new(t)

    def _stacked(self, t: int, most: int, room: int) -> Block:
        first = self._take(t)
        kind = self._kind(first[0])
        room = 0 if kind is None else _chunks.rows(kind.moving, room)
        if kind is None or room < 2:
            return Block(1, None, [], [], [first])
        leaves, structure = jax.tree.flatten(first[0])
        moving = [np.empty((room, *x.shape), x.dtype) for x in kind.moving]
        like, read = (structure, list(map(_like, leaves))), [first]
        self._write(moving, kind, 0, leaves)
        while len(read) < min(most, room):
            try:
                new = self._take(t + len(read))
            except Exception as error:  # comes when what is before it is done
                self._error = error
                break
            leaves, structure = jax.tree.flatten(new[0])
            alike = like == (structure, list(map(_like, leaves)))
            if not alike or not self._stands(leaves):
                self._read.appendleft(new)
                break
            self._write(moving, kind, len(read), leaves)
            read.append(new)
        pairs = zip(jax.tree.leaves(first[0]), kind.still, strict=True)
        return Block(len(read), kind, [x for x, fixed in pairs if fixed], moving, read)

    def _write(
        self, moving: list[np.ndarray], kind: _chunks.Kind, i: int, leaves: list[Any]
    ) -> None:
        """Copies the leaves that move, at once: who made them may change them."""
        pairs = zip(leaves, kind.still, strict=True)
        for stack, x in zip(moving, (x for x, fixed in pairs if not fixed)):
            stack[i] = x

    def _stands(self, leaves: list[Any]) -> bool:
        """Whether leaves that stand still do so; else none does, from now on."""
        if self._still is None:
            return True
        pairs = zip(self._still, leaves, strict=True)
        if all(a is None or a is b for a, b in pairs):
            return True
        self._still = None
        return False

    def _kind(self, batch: Any) -> _chunks.Kind | None:
        """None if such batches cannot be stacked here."""
        leaves = jax.tree.leaves(batch)
        if self._still is not None and len(self._still) != len(leaves):
            self._still = None
        self._stands(leaves)
        still = [x is not None for x in self._still or [None] * len(leaves)]
        for x, fixed in zip(leaves, still, strict=True):
            if len(_chunks.devices(x)) > 1 or not (fixed or _on_host(x)):
                return None
        return _chunks.kind(batch, still)


def _on_host(x: Any) -> bool:
    """Whether NumPy can look at it without a copy from a device."""
    if isinstance(x, jax.Array):
        on: Any = x.sharding.device_set
        on_cpu = all(device.platform == "cpu" for device in on)
        return on_cpu and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    return isinstance(x, bool | int | float | complex | np.number | np.bool_) or (
        isinstance(x, np.ndarray) and x.dtype != object
    )


def _like(x: Any) -> tuple:
    """What has to agree in a stack."""
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return x.shape, x.dtype, getattr(x, "weak_type", False), _chunks.devices(x)
    return type(x), ()
