"""The batches of a run: a function of the step, or an iterable read one a step."""

import itertools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from headwise.training import _checkpoints


class Reader:
    """Batches of an iterable, one a step."""

    def __init__(self, iterator: Iterator[Any]):
        self.iterator = iterator

    def __call__(self, t: int) -> Any:
        try:
            return next(self.iterator)
        except StopIteration:
            raise ValueError(
                f"batches: expected a batch for step {t}, but the iterable has ended"
            ) from None


def reader(
    batches: Callable[[int], Any] | Iterable[Any],
    first: int,
    checkpoints: _checkpoints.Checkpoints | None,
) -> Callable[[int], Any]:
    """`batch_of(t)`, from step `first` on.

    A resumed iterator that can say where it is, as those of grain, goes back there;
    any other iterable is read forward to there.
    """
    if callable(batches):
        return batches
    rows = Reader(iter(batches))
    if first:
        note = None if checkpoints is None else checkpoints.note
        if note is not None and hasattr(rows.iterator, "set_state"):
            rows.iterator.set_state(note)
        else:
            for _ in itertools.islice(rows.iterator, first):
                pass
    return rows


def position(batches: Any, batch_of: Any) -> Any:
    """Where an iterator that can say so is, for the note of a checkpoint; else None."""
    if callable(batches) or not hasattr(batch_of.iterator, "get_state"):
        return None
    return batch_of.iterator.get_state()
