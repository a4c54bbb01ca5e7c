"""Batches of the host, the same for all members: read in blocks, ahead of the device.

A block holds the batches of so many steps, stacked; block number k those from step
k * room on, so that it hangs on the program alone which they are. The block after the
one that is asked for is read, and laid on the device, while that one is worked on.
"""

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise.typing import Array

ROWS, BYTES = 128, 2**26
"""The most batches of a block, and the most that they take, if it is not one alone. Of
blocks there are up to three: in use, waiting, and being read."""


class Block(NamedTuple):
    """The batches of consecutive steps."""

    first: Any
    """int32 []: the step of the first."""
    rows: Any
    """A batch, with an axis of steps before all others."""


def row(block: Block, t: Array) -> Any:
    """The batch of a step."""
    at = t - block.first
    pick = lax.dynamic_index_in_dim
    return jax.tree.map(lambda x: pick(x, at, keepdims=False), block.rows)


def typed(batches: Callable[[int], Any] | None) -> tuple[Any, ...]:
    """What a step takes beside state and number: the types of a batch, or ()."""
    return () if batches is None else (jax.tree.map(_type, _read(batches, 0)),)


class Stream:
    """The batches of a program, in blocks.

    Args:
        batches: `batches(t)` -> the batch of step t, a pytree of arrays or numbers. It
            is called by one thread at a time.

    Raises:
        TypeError: what it gives cannot be stacked.
        ValueError: it gives something else when it is asked for a step again.
    """

    def __init__(self, batches: Callable[[int], Any]):
        self._batches, self.first = batches, _read(batches, 0)
        if not _same(self.first, _read(batches, 0)):
            raise ValueError(
                "batches: expected the same batch whenever step 0 is asked for, got "
                "another one: it has to follow from the step alone (no shuffling, no "
                "random generator that goes on, no next of an iterator)"
            )
        self.like = jax.tree.map(_type, self.first)
        leaves = jax.tree.leaves(self.like)
        nbytes = sum(x.size * x.dtype.itemsize for x in leaves)
        self.room = max(1, min(ROWS, BYTES // max(nbytes, 1)))
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._read: dict[Any, concurrent.futures.Future] = {}

    @property
    def block_like(self) -> Block:
        """The types of a block."""
        many = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.room, *x.shape), x.dtype), self.like
        )
        return Block(jax.ShapeDtypeStruct((), jnp.int32), many)

    def block(self, t: int, steps: int, sharding: Any = None) -> Block:
        """That of step t, on the device; the next one is read meanwhile.

        Args:
            t: step.
            steps: of a trial: nothing is read beyond.
            sharding: where it is to lie; None: on the first device.
        """
        number = t // self.room
        with self._lock:
            wanted = [
                (n, min(self.room, steps - n * self.room), sharding)
                for n in (number, number + 1)
                if n * self.room < steps
            ]
            for key in [key for key in self._read if key not in wanted]:
                self._read.pop(key).cancel()
            for key in wanted:
                if key not in self._read:
                    self._read[key] = self._pool.submit(self._stacked, *key)
            found = self._read[wanted[0]]
        try:
            return found.result()
        except BaseException:
            with self._lock:
                self._read.pop(wanted[0], None)  # the next call tries again
            raise

    def _stacked(self, number: int, count: int, sharding: Any) -> Block:
        first = number * self.room
        rows = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.block_like.rows)
        stacks, structure = jax.tree.flatten(rows)
        for i in range(count):
            batch = self.first if first + i == 0 else _read(self._batches, first + i)
            if jax.tree.map(_type, batch) != self.like:
                raise ValueError(
                    f"batches: expected of step {first + i} what step 0 has, "
                    f"{_words(self.first)}; got {_words(batch)}"
                )
            for stack, x in zip(stacks, jax.tree.leaves(batch), strict=True):
                stack[i] = x
        whole = Block(np.int32(first), jax.tree.unflatten(structure, stacks))
        return jax.device_put(whole, sharding)


def _read(batches: Callable[[int], Any], t: int) -> Any:
    """The batch of a step as arrays of NumPy, of the types that JAX gives them."""
    try:
        batch = batches(t)
    except StopIteration:
        raise ValueError(
            f"batches: expected a batch for step {t}, but an iterator has ended"
        ) from None
    return jax.tree.map(_array, batch)


def _array(x: Any) -> np.ndarray:
    extended = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.extended)
    made = np.zeros(0, object) if extended else np.asarray(x)
    if not (jnp.issubdtype(made.dtype, jnp.number) or made.dtype == bool):
        raise TypeError(
            "batches: expected a batch of arrays of numbers, got "
            f"{x.dtype if extended else type(x).__name__}"
        )
    return np.array(made, jax.dtypes.canonicalize_dtype(made.dtype))


def _same(one: Any, other: Any) -> bool:
    """Whether two batches are, bit for bit."""
    if jax.tree.map(_type, one) != jax.tree.map(_type, other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def _type(x: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _words(batch: Any) -> str:
    """The types of a batch."""
    found, _ = jax.tree_util.tree_flatten_with_path(batch)
    named = [
        f"{jax.tree_util.keystr(path)} {x.dtype}{list(x.shape)}".strip()
        for path, x in found[:5]
    ]
    return ", ".join(named) or "no arrays"
