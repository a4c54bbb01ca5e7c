"""Which trial each member of a cohort trains: places that are freed and filled again.

A cohort has so many places, its size, and trials that wait while none is free. What is
here is a function of arrays, which a checkpoint holds, so that a cohort which is taken
up again makes the same moves.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise.sweeps import _members


class Now(NamedTuple):
    """A cohort on its way: all that a checkpoint of it holds."""

    members: Any
    """Of `_members`, an entry a place."""
    places: np.ndarray
    """int32 [K]: which trial a place trains, -1: none."""
    entered: np.ndarray
    """int32 []: how many trials have had a place."""
    digests: np.ndarray
    """uint32 [marks, N]: of each trial, 0 where it has not come."""
    scores: np.ndarray
    """float32 [rungs, N]: of each trial, NaN where it has not come."""
    ran: np.ndarray
    """int32 []: steps of the cohort."""
    seconds: np.ndarray
    """float32 []: that they took."""

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self.places)


def first(members: Any, number: int, size: int, marks: int, rungs: int) -> Now:
    """A cohort of `number` trials whose first ones have their places.

    Example:
        >>> first(None, 2, 4, 0, 0).places.tolist()
        [0, 1, -1, -1]
    """
    places = np.arange(size, dtype=np.int32)
    places[number:] = -1
    return Now(
        members,
        places,
        np.int32(min(number, size)),
        np.zeros((marks, number), np.uint32),
        np.full((rungs, number), np.nan, np.float32),
        np.int32(0),
        np.float32(0),
    )


def trials(places: np.ndarray, every: Sequence[Any]) -> list[Any]:
    """The trial of each place; an empty one has the first, whose result is not used."""
    return [every[max(place, 0)] for place in places]


def resting(now: Now) -> Now:
    """Members without a trial are not alive."""
    alive = now.members.alive
    still = jax.device_put(np.asarray(alive) & (now.places >= 0), alive.sharding)
    return now._replace(members=now.members._replace(alive=still))


def filled(now: Now, number: int, start: Callable[[np.ndarray], Any]) -> Now:
    """Trials that wait take the free places, in order.

    Args:
        now: the cohort.
        number: how many trials it has.
        start: places -> members at their start.
    """
    free = np.flatnonzero(now.places < 0)[: number - int(now.entered)]
    if not len(free):
        return now
    places = now.places.copy()
    places[free] = now.entered + np.arange(len(free))
    begun = _members.take(start(places), free)
    return now._replace(
        members=_members.put(now.members, free, begun),
        places=places,
        entered=np.int32(now.entered + len(free)),
    )


def compacted(now: Now) -> Now:
    """In the fewest places that are a power of two, if that is fewer."""
    busy = np.flatnonzero(now.places >= 0)
    size = 1 << max(len(busy) - 1, 0).bit_length()
    if not len(busy) or size >= now.size:
        return now
    return _taken(now, busy, size)


def whole(now: Now, size: int) -> Now:
    """In so many places, as a checkpoint holds it whatever has become of the cohort."""
    return now if size == now.size else _taken(now, np.arange(now.size), size)


def _taken(now: Now, kept: np.ndarray, size: int) -> Now:
    """Some places, and empty ones after them."""
    empty = size - len(kept)
    indices = np.concatenate([kept, np.zeros(empty, kept.dtype)])
    places = np.concatenate([now.places[kept], np.full(empty, -1, np.int32)])
    members = _members.take(now.members, jnp.asarray(indices, jnp.int32))
    return resting(now._replace(members=members, places=places))
