"""The batches of a run: a function of the step, or an iterable read one a step."""

import collections
import logging
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from headwise import _checks

_LOG = logging.getLogger("headwise")


class Reader:
    """Batches of an iterable, one a step."""

    def __init__(self, iterator: Iterator[Any], step: int, restarts: bool):
        self.iterator, self._restarts = iterator, restarts
        self._place = _place(iterator, restarts)
        self._place.step = step

    def __call__(self, t: int) -> Any:
        try:
            batch = self._place.next(self.iterator)
        except StopIteration:
            _PLACES.pop(id(self.iterator), None)
            raise ValueError(
                f"batches: expected a batch for step {t}, but the iterable has ended"
                + ("" if self._restarts else "; an iterator cannot start anew")
            ) from None
        self._place.step = t + 1
        return batch

    def give_back(self, batches: list[Any]) -> None:
        """The newest batches come once more, to whoever reads on in this process."""
        self._place.back.extendleft(reversed(batches))
        self._place.step -= len(batches)


def reader(
    batches: Callable[[int], Any] | Iterable[Any], first: int, given: int, saved: Any
) -> Callable[[int], Any]:
    """`batch_of(t)`, from step `first` on.

    A resumed iterator that can say where it is, as those of grain, goes back there; any
    other iterable is read forward to there. One that cannot be restarted, such as a
    generator, goes on where this process has left it; one that is new here is taken to
    stand where the given state stands.

    Args:
        batches: as `fit` takes them.
        first: the step whose batch is read first.
        given: the step of the state that `fit` was given, before any checkpoint.
        saved: position in the checkpoint, None without one.

    Raises:
        TypeError: neither a function nor an iterable.
    """
    if callable(batches):
        return batches
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise TypeError(
            "batches: expected a function of the step or an iterable, got "
            f"{_checks.kind(batches)}"
        )
    iterator = iter(batches)
    place = _PLACES.get(id(iterator))
    if first and saved is not None and hasattr(iterator, "set_state"):
        iterator.set_state(saved)
        if place is not None:
            place.back.clear()
    elif iterator is not batches and place is None:
        _forward(iterator, first, _Place())
    elif first != given:  # resumed
        at = given if place is None else place.step
        if place is None:
            _LOG.warning("batches: those of the first %d steps are passed over", first)
        elif at > first:
            _LOG.warning(
                "batches: the iterator stands at step %d, the checkpoint at %d: what "
                "lies between was read and is not read again",
                at,
                first,
            )
        _forward(iterator, first - at, place or _Place())
    return Reader(iterator, first, iterator is not batches)


def position(batches: Any, batch_of: Any) -> Any:
    """Where an iterator that can say so is, for the note of a checkpoint; else None."""
    if callable(batches) or not hasattr(batch_of.iterator, "get_state"):
        return None
    return batch_of.iterator.get_state()


class _Place:
    """Where an iterator stands."""

    def __init__(self) -> None:
        self.step = 0
        """The step whose batch it gives next."""
        self.of: Any = None
        """The iterator, if it is kept alive here."""
        self.back: collections.deque = collections.deque()
        """Batches that were read and given back."""

    def next(self, iterator: Iterator[Any]) -> Any:
        """The next batch, of those that were given back or of the iterator."""
        return self.back.popleft() if self.back else next(iterator)


def _forward(iterator: Iterator[Any], batches: int, place: _Place) -> None:
    for _ in range(batches):
        try:
            place.next(iterator)
        except StopIteration:
            return


_PLACES: dict[int, _Place] = {}
"""{id of an iterator: where it stands}, of those that were read in this process.

An id is an iterator's for as long as it lives. Most can tell when they die; those of
built-in types (`map`, `zip`, `enumerate`) cannot, so the newest few are kept alive.
"""
_KEPT = 8


def _place(iterator: Iterator[Any], restarts: bool) -> _Place:
    """That of an iterator, a new one if it was never read.

    Nothing is kept alive that comes of an iterable which can be restarted.
    """
    key = id(iterator)
    if key in _PLACES:
        return _PLACES[key]
    place = _PLACES[key] = _Place()
    try:
        weakref.finalize(iterator, _PLACES.pop, key, None).atexit = False
    except TypeError:
        if restarts:
            return _PLACES.pop(key)
        place.of = iterator
        kept = [k for k, other in _PLACES.items() if other.of is not None]
        for old in kept[:-_KEPT]:
            del _PLACES[old]
    return place
