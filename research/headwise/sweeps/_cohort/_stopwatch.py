"""How long a step of a cohort takes: a few of its own steps, the fastest of them."""

import time
from typing import Any

import jax

PART = 0.02
"""Of the time that a cohort takes, what is spent on measuring it."""

LEAST, MOST = 0.05, 1.0
"""Seconds of it in any case, so that short steps are told apart; and after which a step
is long enough to be measured by itself."""

SHORT = 0.01
"""A run of steps that takes less is made longer."""

MORE = 2.5
"""A run is long enough if it takes so many times what a run of one step takes: what a
call costs beside its steps is the same in both, and goes out of their difference."""

CALLS = 12
"""The most runs."""


def step(cohort: Any, trials: Any, steps: int) -> float:
    """Seconds of one step of all members of a cohort.

    Of a run of several less one of a single step, after a first step that meets cold
    memory. What a call costs does not count, since it has many steps when it counts.

    Args:
        cohort: of `_modes.cohort`.
        trials: as many as it is for.
        steps: of a trial; none is gone beyond.
    """
    members, at = jax.block_until_ready(cohort.start(trials)), 0

    def run(number: int) -> float:
        nonlocal members, at
        if at + number > steps:
            members, at = jax.block_until_ready(cohort.start(trials)), 0
        start = time.perf_counter()
        members, _ = cohort.advance(members, number, steps)
        jax.block_until_ready(members)
        at += number
        return time.perf_counter() - start

    first = run(1)
    if steps == 1:
        return first
    once = run(1)
    if once >= MOST:
        return min(once, run(1))
    number, spent, found = min(4, steps), once, []
    for _ in range(CALLS):
        taken = run(number)
        spent += taken
        if number < steps and taken < max(MORE * once, SHORT):
            number = min(4 * number, steps)
            continue
        more = taken - once
        found.append(more / (number - 1) if more > 0 else taken / number)
        if len(found) > 1 and spent >= min(max(PART * found[-1] * steps, LEAST), MOST):
            break
    return min(found, default=taken / number)
