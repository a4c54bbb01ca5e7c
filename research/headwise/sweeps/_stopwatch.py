"""How long a step of a cohort takes: a few of its own steps, the fastest of them."""

import time
from typing import Any

import jax

PART = 0.02
"""Of the time that a cohort takes, what is spent on measuring it."""

LEAST, MOST = 0.05, 1.0
"""Seconds of it in any case, so that short steps are told apart; and at most."""

SHORT = 0.01
"""A run of steps that takes less is made longer: the call itself takes a part of it."""

CALLS = 12
"""The most runs."""


def step(cohort: Any, trials: Any, steps: int) -> float:
    """Seconds of one step of all members of a cohort.

    At least two runs are measured, after a first step that meets cold memory; of trials
    that have only that one, it.

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
        return (time.perf_counter() - start) / number

    first = run(1)
    if steps == 1:
        return first
    number, spent, best = 1, 0.0, float("inf")
    for done in range(CALLS):
        taken = run(number)
        best, spent = min(best, taken), spent + taken * number
        if done > 0 and spent >= min(max(PART * best * steps, LEAST), MOST):
            break
        if taken * number < SHORT:
            number = min(4 * number, steps)
    return best
