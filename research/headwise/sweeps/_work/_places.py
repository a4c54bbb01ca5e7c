"""Which trial each member of a cohort trains: places that are freed and filled again.

A cohort has so many places, its size, and trials that wait while none is free. All of
it are arrays, which a checkpoint holds, so that a cohort which is taken up again makes
the same moves.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from headwise.sweeps._cohort import _members
from headwise.sweeps._search import _halving


class Now(NamedTuple):
    """A cohort on its way: all that a checkpoint of it holds."""

    members: Any
    """Of `_members`: one a place, and perhaps some more that are not alive."""
    places: np.ndarray
    """int32 [size]: which trial a place trains, -1: none."""
    size: Any
    """int32 []: how many places there are; in a checkpoint `places` may be longer."""
    entered: Any
    """int32 []: how many trials have had a place."""
    digests: np.ndarray
    """uint32 [marks, N]: of each trial, 0 where it has not come."""
    scores: np.ndarray
    """uint32 [rungs, N, 2], the bits of float64: of each trial, NaN: has not come."""
    ran: Any
    """int32 []: steps of the cohort."""
    seconds: Any
    """float32 []: that they took."""


def first(members: Any, number: int, size: int, marks: int, rungs: int) -> Now:
    """A cohort of `number` trials whose first ones have their places.

    Example:
        >>> first(None, 2, 4, 0, 0).places.tolist()
        [0, 1, -1, -1]
    """
    places = np.arange(size, dtype=np.int32)
    places[number:] = -1
    return Now(
        members=members,
        places=places,
        size=np.int32(size),
        entered=np.int32(min(number, size)),
        digests=np.zeros((marks, number), np.uint32),
        scores=bits(np.full((rungs, number), np.nan)),
        ran=np.int32(0),
        seconds=np.float32(0),
    )


def bits(scores: np.ndarray) -> np.ndarray:
    """float64 as pairs of uint32, which no device rounds."""
    return scores.astype(np.float64)[..., None].view(np.uint32)


def floats(scores: np.ndarray) -> np.ndarray:
    """What `bits` was given.

    Example:
        >>> floats(bits(np.array([[0.1, np.inf]]))).tolist()
        [[0.1, inf]]
    """
    return np.ascontiguousarray(scores).view(np.float64)[..., 0]


def resting(now: Now) -> Now:
    """Members without a trial are not alive."""
    alive = np.array(now.members.alive)
    alive[len(now.places) :] = False
    alive[: len(now.places)] &= now.places >= 0
    return now._replace(members=now.members._replace(alive=jnp.asarray(alive)))


def moved(now: Now, number: int, start: Callable[[np.ndarray], Any]) -> Now:
    """Free places are filled with trials that wait; when none waits, they go.

    Args:
        now: the cohort.
        number: how many trials it has.
        start: places -> members at their start.
    """
    free = np.flatnonzero(now.places < 0)[: number - int(now.entered)]
    if len(free):
        places = now.places.copy()
        places[free] = now.entered + np.arange(len(free))
        begun = _members.take(start(places), free)
        return now._replace(
            members=_members.put(now.members, free, begun),
            places=places,
            entered=np.int32(now.entered + len(free)),
        )
    busy = np.flatnonzero(now.places >= 0)
    _, size = _halving.places(list(busy), [], len(now.places))
    return _taken(now, busy, size) if len(busy) > 0 and size < len(now.places) else now


def whole(now: Now, like: Now) -> Now:
    """With as many places and members as a cohort began with, for a checkpoint."""
    size, places = len(like.places), np.full(len(like.places), -1, np.int32)
    if len(now.places) == size:
        return now
    places[: len(now.places)] = now.places
    members = _members.take(now.members, jnp.arange(len(now.places)))
    members = _members.padded(members, len(like.members.t))
    return now._replace(members=members, places=places)


def again(now: Now) -> Now:
    """What `whole` was given."""
    size = int(now.size)
    if size == len(now.places):
        return now
    members = _members.take(now.members, jnp.arange(size))
    return now._replace(members=members, places=now.places[:size])


def ranked(
    plan: _halving.Halving,
    rungs: Sequence[int],
    now: Now,
    t: np.ndarray,
    metrics: Mapping[int, Any],
    frozen: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The scores with those of who has come to a rung now, and which places stop there.

    Args:
        plan, rungs: of halving.
        now: the cohort.
        t: [size], at which step a place is.
        metrics: {place: its metrics}, of who is at a rung.
        frozen: bool [size], who broke: the worst of each rung to come.
    """
    scores, cut = floats(now.scores), np.zeros(now.places.shape, bool)
    broken = scores[:, now.places[frozen]]
    scores[:, now.places[frozen]] = np.where(np.isnan(broken), -np.inf, broken)
    for row, rung in enumerate(rungs):
        here = np.array([place for place in metrics if t[place] == rung], int)
        came = np.zeros(scores.shape[1], bool)
        for place in here:
            scores[row, now.places[place]] = plan.score(metrics[place])
            came[now.places[place]] = True
        stays = plan.survivors(scores[row], came)
        cut[here] = ~stays[now.places[here]]
    return bits(scores), cut


def numbers(now: Now, t: np.ndarray, stopped: np.ndarray) -> dict[str, Any]:
    """How far a cohort is: of its members that run, and `over`: trials at their end."""
    here = now.places >= 0
    return {
        "step": int(t[here].max()),
        "trials": int(here.sum()),
        "frozen": int((stopped[here] >= 0).sum()),
        "ahead": int(t[here].sum()),
        "over": int(now.entered) - int(here.sum()),
    }


def _taken(now: Now, kept: np.ndarray, size: int) -> Now:
    """Some places, and empty ones after them."""
    places = np.full(size, -1, np.int32)
    places[: len(kept)] = now.places[kept]
    members = _members.padded(_members.take(now.members, kept), size)
    return resting(now._replace(members=members, places=places, size=np.int32(size)))
