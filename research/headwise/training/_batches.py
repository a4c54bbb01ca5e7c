"""The batches of a run: a function of the step, or an iterable read one a step."""

import itertools
import logging
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from headwise import _checks

_LOG = logging.getLogger("headwise")

_STANDS_AT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""{iterator that cannot be restarted: the step whose batch it gives next}, of those
that were read in this process and are alive."""


class Reader:
    """Batches of an iterable, one a step."""

    def __init__(self, iterator: Iterator[Any]):
        self.iterator = iterator

    def __call__(self, t: int) -> Any:
        try:
            batch = next(self.iterator)
        except StopIteration:
            raise ValueError(
                f"batches: expected a batch for step {t}, but the iterable has ended"
            ) from None
        _stands_at(self.iterator, t + 1)
        return batch


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
    """
    if callable(batches):
        return batches
    if not isinstance(batches, Iterable):
        raise TypeError(
            "batches: expected a function of the step or an iterable, got "
            f"{_checks.kind(batches)}"
        )
    iterator = iter(batches)
    if first and saved is not None and hasattr(iterator, "set_state"):
        iterator.set_state(saved)
    elif iterator is not batches:
        _forward(iterator, first)
    elif first != given:  # resumed
        at = _stands_at(iterator)
        if at is None:
            at = given
            _LOG.warning("batches: those of the first %d steps are passed over", first)
        elif at > first:
            _LOG.warning(
                "batches: the iterator stands at step %d, the checkpoint at %d: what "
                "lies between was read and is not read again",
                at,
                first,
            )
        _forward(iterator, first - at)
    return Reader(iterator)


def position(batches: Any, batch_of: Any) -> Any:
    """Where an iterator that can say so is, for the note of a checkpoint; else None."""
    if callable(batches) or not hasattr(batch_of.iterator, "get_state"):
        return None
    return batch_of.iterator.get_state()


def _forward(iterator: Iterator[Any], batches: int) -> None:
    for _ in itertools.islice(iterator, max(0, batches)):
        pass


def _stands_at(iterator: Iterator[Any], step: int | None = None) -> int | None:
    """Where an iterator stands; with `step` it is kept. None: not known."""
    try:
        if step is not None:
            _STANDS_AT[iterator] = step
        return _STANDS_AT.get(iterator)
    except TypeError:  # those of built-in types cannot be referred to weakly
        return None
