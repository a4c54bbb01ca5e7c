"""What a search may vary: ranges of numbers and lists of levels, by name."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from headwise import _checks
from headwise.sweeps._design import _product
from headwise.sweeps._design import _weightings
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._design._trials import Varied


class Range(NamedTuple):
    """Where one name may lie: between two ends, or among levels."""

    head: bool
    """Whether it is the weight of a head."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    """Ints alone."""
    levels: tuple[Varied, ...] | None = None

    def text(self) -> dict[str, Any]:
        """As plain JSON: what counts of it."""
        of_levels = self.levels is not None
        names = ("levels",) if of_levels else ("low", "high", "log", "whole")
        return {name: getattr(self, name) for name in names}


Space = dict[str, Range]
Point = dict[str, Varied]
"""A value for each name of a space, without the seed."""


def space(heads: Mapping[str, Any], vary: Mapping[str, Any]) -> Space:
    """The ranges by name, heads first, in sorted order; raises for what is none."""
    _checks.mapping("space", heads)
    if not isinstance(vary, Mapping):
        raise TypeError(f"vary: expected {{name: range}}, got {_checks.kind(vary)}")
    _product.check_varied("vary", vary)
    names = _checks.head_names("space", heads) if heads else ()
    if both := set(names) & set(vary):
        raise ValueError(
            f"vary: expected names that are no heads, got {_checks.listing(both)}"
        )
    if not heads and not vary:
        raise ValueError(
            "space: expected something to search, got no heads and no vary"
        )
    ends = _weightings.ends(heads, "space")
    found = {name: Range(True, *ends[name], log=True) for name in names}
    for name in sorted(vary):
        found[name] = _range(f"vary[{name!r}]", vary[name])
    return found


def _range(argument: str, given: Any) -> Range:
    if isinstance(given, list):
        levels = [_product.level(f"{argument}[{i}]", x) for i, x in enumerate(given)]
        if not levels or len({(type(x), x) for x in levels}) != len(levels):
            raise ValueError(
                f"{argument}: expected one or more distinct levels, got {given!r}"
            )
        return Range(False, levels=tuple(levels))
    expected = "(lowest, highest), (lowest, highest, 'linear') or a list of levels"
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise ValueError(f"{argument}: expected {expected}, got {given!r}")
    linear = len(given) == 3
    if linear and given[2] != "linear":
        raise ValueError(f"{argument}: expected {expected}, got {given!r}")
    low, high = (_end(f"{argument}[{i}]", end) for i, end in enumerate(given[:2]))
    if low > high or (not linear and low <= 0):
        rule = "" if linear else "0 < "
        hint = "" if linear else ", or (lowest, highest, 'linear')"
        raise ValueError(
            f"{argument}: expected {rule}lowest <= highest{hint}, got {given!r}"
        )
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(False, low, high, log=not linear, whole=whole)


def _end(argument: str, given: Any) -> float | int:
    number = _product.level(argument, given)
    if isinstance(number, str | bool):
        raise ValueError(f"{argument}: expected a number, got {given!r}")
    return number


def trial(ranges: Space, point: Point, seed: int) -> Trial:
    """The trial of a point."""
    weights = {n: float(x) for n, x in point.items() if ranges[n].head}
    return Trial(weights, seed, {n: x for n, x in point.items() if not ranges[n].head})


def point(of: Trial) -> Point:
    """A trial without its seed."""
    return {**of.weights, **of.varied}


def rounded(given: Range, value: Any) -> Varied:
    """A value that was drawn, at seven digits, inside of its range."""
    if given.levels is not None or given.whole:
        return value
    short = float(_weightings.short(value))
    return min(max(short, given.low), given.high)
