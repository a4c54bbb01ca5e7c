"""What came of running a trial again, in numbers and in words."""

from collections.abc import Sequence
from typing import NamedTuple


class Verified(NamedTuple):
    """How the first steps of a trial compare, run again alone.

    Example:
        >>> found = hw.sweeps.Verified("5ba02d62726e6aac", 8, False, 2e-7, 1e-5)
        >>> found.holds, found._replace(rounding=0.0).holds
        (True, False)
    """

    trial: str
    """Its key."""
    steps: int
    """That were run again."""
    same_bits: bool
    """Whether the digests of the states agree wherever both were taken."""
    difference: float
    """The largest of a reported number, as a part of the largest of its curve; NaN if
    nothing was reported."""
    rounding: float
    """What it may be; 0: the bits have to be the same."""
    mode: str = "scan"
    """How the trial ran in the study; alone it runs the same way."""
    what: str = ""
    """The trial in words: its weights, seed, and what varies."""
    digests_at: tuple[int, ...] = ()
    """The steps after which the states were compared."""
    values_at: tuple[int, ...] = ()
    """The steps whose reports were compared."""
    elsewhere: tuple[str, ...] = ()
    """How this device, or what is installed here, differs from what made the record."""

    @property
    def holds(self) -> bool:
        """Whether it is the same trial, to the rounding."""
        return self.same_bits or (
            self.rounding > 0 and self.difference <= self.rounding
        )

    def __str__(self) -> str:
        """Which trial, which steps, what was found, what differs here."""
        named = f"trial {self.trial}" + (f" ({self.what})" if self.what else "")
        found = "the same bits" if self.same_bits else "other bits"
        if self.digests_at:
            found += f" after {_steps(self.digests_at)}"
        if self.same_bits:
            parts = [found]
        elif self.rounding:
            parts = [found, f"values differ by {self.difference:.1e}"]
            parts[1] += f" in {_steps(self.values_at)}" if self.values_at else ""
            parts[1] += f" (at most {self.rounding:g})"
        else:
            parts = [f"{found}, where {self.mode} gives the same"]
            parts += [f"values differ by {self.difference:.1e}"]
        state = "holds" if self.holds else "DOES NOT HOLD"
        lines = [
            f"{named}: {self.steps} steps by {self.mode}: {', '.join(parts)}: {state}"
        ]
        return "\n".join([*lines, *self.elsewhere])


def _steps(numbers: Sequence[int]) -> str:
    """Steps in words.

    Example:
        >>> _steps([8]), _steps([8, 16]), _steps(range(4, 120, 5))
        ('step 8', 'steps 8, 16', '24 steps from 4 to 119')
    """
    if len(numbers) == 1:
        return f"step {numbers[0]}"
    if len(numbers) <= 3:
        return f"steps {', '.join(map(str, numbers))}"
    return f"{len(numbers)} steps from {numbers[0]} to {numbers[-1]}"
