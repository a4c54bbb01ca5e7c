"""What trials will cost, in words: pure text from sizes and measured times."""

import math
from collections.abc import Mapping

WORDS = {
    "vmap": "vmapped",
    "scan": "scanned",
    "loop": "looped",
    "threads": "in threads",
    "shard": "over devices",
}
"""How trials of each mode run."""

_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def digits(value: float, number: int) -> str:
    """A positive number to so many digits, without an exponent.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> [_forecast.digits(x, 2) for x in (0.1349, 2.0, 1234.0)]
        ['0.13', '2.0', '1200']
    """
    if not value > 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{number - 1}e}")
    return f"{rounded:.{max(0, number - 1 - math.floor(math.log10(rounded)))}f}"


def duration(seconds: float) -> str:
    """A time as people say it, no finer than a forecast is.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> [_forecast.duration(s) for s in (0.2, 7.4, 42.0, 700.0, 9000.0, 2e5)]
        ['under 1 s', '7 s', '40 s', '12 min', '2.5 h', '2.3 days']
    """
    if seconds < 0.95:
        return "under 1 s"
    if seconds < 9.5:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * _MINUTE:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 1.5 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 1.5 * _DAY:
        return f"{digits(seconds / _HOUR, 2)} h"
    return f"{digits(seconds / _DAY, 2)} days"


def size(nbytes: float) -> str:
    """A number of bytes in decimal units.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> [_forecast.size(n) for n in (512, 2048, 120_400_000, 1.26e9)]
        ['512 B', '2.0 kB', '120 MB', '1.3 GB']
    """
    for unit, scale in _BYTES:
        if nbytes >= scale:
            return f"{digits(nbytes / scale, 2)} {unit}"
    return f"{nbytes:.0f} B"


def measured(chosen: str, seconds: Mapping[str, float]) -> str:
    """What was measured: the chosen way first, the others after it, in its unit.

    Args:
        chosen: a mode of `seconds`.
        seconds: {mode: seconds of a step of one trial}.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> _forecast.measured("vmap", {"scan": 2.2e-4, "vmap": 1.349e-4})
        'measured 0.135 ms a step a trial; scanned 0.22'
    """
    unit, scale = next(
        ((u, s) for u, s in _UNITS if seconds[chosen] >= 0.1 * s), _UNITS[-1]
    )
    others = "".join(
        f"; {WORDS.get(mode, mode)} {digits(time / scale, 2)}"
        for mode, time in seconds.items()
        if mode != chosen
    )
    own = digits(seconds[chosen] / scale, 3)
    return f"measured {own} {unit} a step a trial{others}"


def line(
    trials: int,
    size_: int,
    mode: str,
    why: str,
    seconds: float | None,
    nbytes: float | None,
) -> str:
    """The plan of trials that share a program, on one line.

    Args:
        trials: how many.
        size_: the most that run as one program, a cohort.
        mode: how.
        why: why so, in words.
        seconds: of all of them, None if unknown.
        nbytes: of one cohort, None if unknown.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> why = "measured 0.135 ms a step a trial; scanned 0.22"
        >>> print(_forecast.line(32, 32, "vmap", "told so", 40.0, 1.2e8))
        32 trials, 1 cohort, vmapped (told so), about 40 s, 120 MB
        >>> print(_forecast.line(50, 17, "scan", "told so", None, None))
        50 trials, 3 cohorts of 17 or fewer, scanned (told so)
    """
    number = -(-trials // size_)
    parts = [_count(trials, "trial"), _count(number, "cohort")]
    if number > 1:
        parts[1] += f" of {size_}" + (" or fewer" if trials % size_ else "")
    parts.append(f"{WORDS.get(mode, mode)} ({why})" if why else WORDS.get(mode, mode))
    return ", ".join(parts + _costs(seconds, nbytes))


def total(
    trials: int,
    cohorts: int,
    seconds: float | None,
    nbytes: float | None,
    *,
    done: int = 0,
    workers: int = 1,
) -> str:
    """The plan of a study of several programs, on one line.

    Args:
        trials: that are to be run.
        cohorts: that they are.
        seconds: of all of them, by one worker; None if unknown.
        nbytes: of the largest cohort; None if unknown.
        done: trials that are not run again.
        workers: that share the work.

    Example:
        >>> from headwise.sweeps._cohort import _forecast
        >>> print(_forecast.total(48, 4, 600.0, 3e8, done=16, workers=2))
        in all 48 trials (16 more are done), 4 cohorts, 2 workers, about 5 min, 300 MB
    """
    first = f"in all {_count(trials, 'trial')}"
    if done:
        first += f" ({done} more {'is' if done == 1 else 'are'} done)"
    parts = [first, _count(cohorts, "cohort")]
    if workers > 1:
        parts.append(_count(workers, "worker"))
    shared = None if seconds is None else seconds / max(1, min(workers, cohorts))
    return ", ".join(parts + _costs(shared, nbytes))


def _costs(seconds: float | None, nbytes: float | None) -> list[str]:
    costs = []
    if seconds is not None:
        text = duration(seconds)
        costs.append(text if text.startswith("under") else f"about {text}")
    if nbytes is not None:
        costs.append(size(nbytes))
    return costs


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
