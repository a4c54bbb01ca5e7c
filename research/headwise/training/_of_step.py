"""Batches of the host for any step: of a function, or of what can be gone through anew.

A sweep goes through the same batches for one cohort after the other, and after a kill
on from any step, so that one of them has to follow from its step alone.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise.training import _batches

_AGAIN = (
    "a function of the step, or an iterable that begins anew with the same batches (a "
    "list, a data set of grain)"
)


def of_step(batches: Callable[[int], Any] | Iterable[Any]) -> Callable[[int], Any]:
    """`batches(t)`: the batch of any step.

    Raises:
        TypeError: neither a function nor an iterable.
        ValueError: an iterator, which cannot begin anew.
    """
    if callable(batches):
        return batches
    if isinstance(batches, Mapping) or not (
        hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
    ):
        raise TypeError(f"batches: expected {_AGAIN}; got {_checks.kind(batches)}")
    if hasattr(batches, "__next__"):
        raise ValueError(
            f"batches: expected {_AGAIN}; got {_checks.kind(batches)}, which can be "
            "read once"
        )
    return _Anew(batches)


class _Anew:
    """An iterable as a function of the step: by index, or read forward to there."""

    def __init__(self, batches: Any):
        self._batches, self._at = batches, 0
        self._next: Callable[[int], Any] | None = None
        self._by_index = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")

    def __call__(self, t: int) -> Any:
        if self._by_index:
            if t >= len(self._batches):
                raise ValueError(
                    f"batches: expected one for step {t}, got {len(self._batches)}"
                )
            return self._batches[t]
        if self._next is None or t < self._at:
            self._next, self._at = _batches.reader(self._batches, t, 0, None), t
        for skipped in range(self._at, t):
            self._next(skipped)
        self._at = t + 1
        return self._next(t)
