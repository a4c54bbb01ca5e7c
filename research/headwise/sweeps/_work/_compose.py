"""Which trials of a study nobody has yet: read off its cohorts, which are in order."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _records
from headwise.sweeps._work import _ends


class Standing(NamedTuple):
    """Where the trials stand that are not done."""

    free: list[str]
    """In no cohort, in their order."""
    open: list[int]
    """The cohorts that hold some of the others."""


def standing(undone: Sequence[str], cohorts: Sequence[Mapping[str, Any]]) -> Standing:
    """Which trials are in no cohort, and which cohorts have the others.

    Every cohort was linked by one who had read all before it, so no trial is in two;
    but one that was too large for the memory is replaced: a later cohort that names it
    (`instead_of`) frees its trials.

    Args:
        undone: names of trials.
        cohorts: their texts, in order.
    """
    void = {cohort.get("instead_of") for cohort in cohorts}
    numbers = {
        name: number
        for number, cohort in enumerate(cohorts)
        if number not in void
        for name in cohort["trials"]
    }
    free = [name for name in undone if name not in numbers]
    return Standing(free, sorted({numbers[name] for name in undone if name in numbers}))


def attempt(
    key: str, records: Mapping[str, _records.Record], retry: bool = False
) -> str:
    """The name in the store of a trial's last attempt, or of its next one.

    ::

        key, key.1, key.2, ...

    Args:
        key: of the trial.
        records: those of the store, by name.
        retry: whether an attempt that failed is followed by another.
    """
    names = [key]
    while (following := f"{key}.{len(names)}") in records:
        names.append(following)
    last = records.get(names[-1])
    return following if retry and last is not None and _ends.failed(last) else names[-1]


def size(
    free: int,
    like: Sequence[Mapping[str, Any]],
    largest: int,
    workers: int = 1,
) -> int:
    """How many trials the next cohort has room for.

    All cohorts of a study that share a program have one size, so that it is compiled
    once: as equal as may be and at least one a worker. Only what is left in the end may
    be a smaller one: the next power of two.

    Args:
        free: how many trials are to be had.
        like: the cohorts that there are of this program.
        largest: that the memory has room for.
        workers: among how many processes the trials are to be shared.
    """
    if like:
        usual = like[-1]["size"]
    else:
        number = max(-(-free // largest), min(workers, free))
        usual = -(-free // number)
    small = 1 << (free - 1).bit_length()
    return usual if 2 * free > usual else min(small, usual)
