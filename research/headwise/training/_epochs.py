"""Epochs: how many steps they are, and batches that start anew when they end."""

import operator
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from headwise import _checks


def lengths(
    batches: Any,
    steps: int | None,
    epochs: int | None,
    steps_per_epoch: int | None,
) -> tuple[int, int | None]:
    """The number of all steps, and of those in an epoch if there are epochs.

    Args:
        batches: as `fit` takes them. They tell their length by `len(batches)`, or by an
            attribute `steps_per_epoch`.
        steps, epochs: exactly one of them is given.
        steps_per_epoch: None: what the batches tell.

    Raises:
        ValueError: not exactly one is given; the batches do not tell their length.

    Example:
        >>> from headwise.training import _epochs
        >>> _epochs.lengths([10.0, 20.0, 30.0], None, 5, None)
        (15, 3)
    """
    if (steps is None) == (epochs is None):
        got = "neither" if steps is None else f"steps={steps!r} and epochs={epochs!r}"
        raise ValueError(f"steps, epochs: expected exactly one of them, got {got}")
    if epochs is None:
        if steps_per_epoch is not None:
            raise ValueError(
                f"steps_per_epoch: goes with epochs, got {steps_per_epoch!r} with "
                f"steps={steps!r}"
            )
        assert steps is not None
        return steps, None
    epochs = _checks.positive_int("epochs", epochs)
    if steps_per_epoch is None:
        steps_per_epoch = _told(batches)
    per_epoch = _checks.positive_int("steps_per_epoch", steps_per_epoch)
    return epochs * per_epoch, per_epoch


def _told(batches: Any) -> int:
    """How many batches there are, as they say."""
    told = getattr(batches, "steps_per_epoch", None)
    if told is None and not isinstance(batches, Mapping):
        told = operator.length_hint(batches, 0) if hasattr(batches, "__len__") else None
    if told is None or not 0 < told < 2**31:  # grain: without end
        raise ValueError(
            "steps_per_epoch: expected a number, since the batches "
            f"({_checks.kind(batches)}) do not tell how many they are; give it, or a "
            "list"
        )
    return told


def again(
    batches: Callable[[int], Any] | Iterable[Any],
) -> Callable[[int], Any] | Iterable[Any]:
    """Batches that start anew when they end; a function and an iterator as they are.

    An iterator (a generator, `map`) cannot start anew: it has to last.
    """
    if callable(batches) or hasattr(batches, "__next__"):
        return batches
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        return batches  # refused where it is read
    return _Again(batches)


def done(step: int, per_epoch: int | None) -> dict[str, Any]:
    """What a record says of the epoch: how many are done, {} where there are none."""
    if per_epoch is None:
        return {}
    whole, rest = divmod(step, per_epoch)
    return {"epoch": whole if rest == 0 else round(step / per_epoch, 6)}


class _Again:
    """An iterable without end: one that ends, over and over."""

    def __init__(self, batches: Iterable[Any]):
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return _Passes(self._batches)


class _Passes:
    """Its iterator. One that can say where it is in a pass can still do so."""

    def __init__(self, batches: Iterable[Any]):
        self._batches = batches
        self._iterator = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._batches)
            return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        if name not in ("get_state", "set_state"):
            raise AttributeError(name)
        return getattr(self._iterator, name)
