"""Which modes are likely to be the fastest, and a race between them.

The likely ones are compiled and run for a few steps, the likeliest first; one is left
out where compiling it would take longer than it could save.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

WORTH = 0.1
"""A way is compiled if that takes less than this part of the time that all trials take
in the best way so far: what it could save pays for it."""

ALIKE = 1.15
"""Ways that are closer than this are measured once more, in turns."""


class Way(NamedTuple):
    """A cohort that is compiled, and what is known of it."""

    size: int
    nbytes: float
    compile_seconds: float
    measure: Callable[[], float]
    """Seconds of a step of one trial."""


def likely(
    modes: Iterable[str],
    *,
    trials: int,
    cores: int,
    devices: int,
    cpu: bool,
    slow_loops: bool,
    convolves: bool,
    small: bool,
) -> list[str]:
    """The modes that may be the fastest, the likeliest first.

    Args:
        modes: that are allowed; if none of them is likely they are all tried.
        trials: how many.
        cores: of a CPU that this process may use.
        devices: how many the trials may be split over.
        cpu: whether they are CPUs.
        slow_loops: the step is slow in compiled loops.
        convolves: the step has convolutions.
        small: it computes little, so that what its operations cost beside that counts.
    """
    allowed = list(modes)
    side_by_side = cpu and cores > 1 and trials > 1
    if slow_loops:
        order = ["threads", "loop"] if side_by_side else ["loop"]
    elif trials == 1:
        order = ["scan"]
    elif cpu:
        # Threads are scans side by side: where there are cores, one scan alone loses.
        order = ["threads" if side_by_side else "scan", "vmap"]
        order = order[::-1] if small else order
    else:
        order = ["shard" if devices > 1 else "vmap"]
        # Kernels that differ between trials make grouped convolutions.
        order += ["scan"] if convolves else []
    return [mode for mode in order if mode in allowed] or allowed


def decide(
    order: Sequence[str],
    attempt: Callable[[str], Way | None],
    trials: int,
    steps: int,
    hopeless: Callable[[str, float], bool] = lambda mode, seconds: False,
) -> tuple[dict[str, Way], dict[str, float], bool]:
    """The ways that are worth a look, the fastest first.

    Args:
        order: modes, the likeliest first.
        attempt: mode -> the way, compiled; None: it does not fit.
        trials: how many.
        steps: of each.
        hopeless: (mode, seconds of a step of one trial in the best way so far) ->
            whether the mode cannot be faster, so that it is not compiled.

    Returns:
        {mode: way}; {mode: seconds of a step of one trial}; whether others were left
        out because compiling them takes longer than they could save.
    """
    ways: dict[str, Way] = {}
    seconds: dict[str, float] = {}

    def whole() -> float:
        return min(seconds.values(), default=float("inf")) * trials * steps

    left_out = False
    for mode in order:
        costs = max((way.compile_seconds for way in ways.values()), default=0.0)
        if ways and hopeless(mode, min(seconds.values())):
            continue
        if costs > WORTH * whole():
            left_out = True
            break
        way = attempt(mode)
        if way is not None:
            ways[mode] = way
            seconds[mode] = way.measure()
    close = [mode for mode in ways if seconds[mode] < ALIKE * min(seconds.values())]
    if len(close) > 1:
        for mode in (*close, *reversed(close)):
            seconds[mode] = min(seconds[mode], ways[mode].measure())
    ranked = sorted(seconds, key=seconds.__getitem__)
    return (
        {mode: ways[mode] for mode in ranked},
        {mode: seconds[mode] for mode in ranked},
        left_out,
    )
