"""The weights of an Objective, on their way with its values to a step.

A step without a balancer minimises what the Objective says. It is shown a function that
returns values, so these carry the weights: static data, no leaves.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import jax


class Weights(dict[str, Any]):
    """Weights by name of head: floats, schedules, or what is traced.

    Two are the same if they are of the same heads, with equal numbers and the very same
    schedules, so that a program which was compiled for one serves the other.
    """

    def _compared(self) -> tuple[tuple[str, Any], ...]:
        numbers = {n: w if isinstance(w, float) else id(w) for n, w in self.items()}
        return tuple(sorted(numbers.items()))

    def __eq__(self, other: object) -> bool:
        """Whether a program would be the same."""
        return isinstance(other, Weights) and self._compared() == other._compared()

    def __ne__(self, other: object) -> bool:
        """Whether it would not."""
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        """Of what is compared; they are never changed."""
        return hash(self._compared())


def of_objective(weights: Mapping[str, Any]) -> Weights | None:
    """Those that an Objective was given; None if they are all 1."""
    plain = Weights(
        {
            name: w if callable(w) or isinstance(w, jax.core.Tracer) else float(w)
            for name, w in weights.items()
        }
    )
    ones = all(isinstance(w, float) and w == 1.0 for w in plain.values())
    return None if ones else plain


def merged(
    old: Weights | None, new: Weights | None, replaced: Iterable[str]
) -> Weights | None:
    """Those of two dicts of values, where the names of the second are `replaced`."""
    gone = set(replaced)
    kept = {name: w for name, w in (old or {}).items() if name not in gone}
    return Weights(kept | (new or {})) or None
