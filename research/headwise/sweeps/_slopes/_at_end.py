"""What programs say at the end of their steps, run as cohorts, with nothing kept."""

from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from headwise._program import Program
from headwise.sweeps._cohort import _choice
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials


class Ends(NamedTuple):
    """Trials after their last step."""

    metrics: dict[str, Any]
    """What `evaluate` gave: arrays [N]; of a trial that broke, of before it did."""
    broke: list[str | None]
    """What broke first in each trial, "" where nobody knows; None: nothing did."""


def of(program: Program, rows: _trials.Arrays, steps: int, mode: str) -> Ends:
    """The ends of trials, so many at a time as fit; in a mode, or `auto`."""
    modes = _modes.MODES if mode == "auto" else (mode,)
    chosen = _choice.choose(program, rows, max(steps, 1), modes=modes)
    count, size = len(rows["seed"]), chosen.size
    pieces, broke = [], []
    for first in range(0, count, size):
        which = np.minimum(np.arange(first, first + size), count - 1)
        part = jax.tree.map(lambda x, which=which: x[which], rows)
        cohort = _modes.cohort(program, chosen.mode, part, steps=steps)
        members, _ = cohort.advance(cohort.start(part), steps)
        stopped, cause = (
            np.asarray(x)[:size] for x in (members.stopped, members.cause)
        )
        broke += [
            None if t < 0 else cohort.parts.cause(int(c)) or ""
            for t, c in zip(stopped, cause, strict=True)
        ]
        pieces.append(cohort.finish(members))
    metrics = jax.tree.map(lambda *x: np.concatenate(x)[:count], *pieces)
    return Ends(metrics, broke[:count])
