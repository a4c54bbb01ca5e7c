"""One trial of a study again, alone, for its first steps: are they the same?"""

import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _checks
from headwise import _columns
from headwise import _program
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _done
from headwise.sweeps._store import _read
from headwise.sweeps._store import _study
from headwise.sweeps._work import _groups
from headwise.sweeps._work import _job

ROUNDING = 1e-3
"""What a reported number may differ by, as a part of the largest one of its curve, in
the few steps that are compared: another size of program, or device, sums in another
order. The same mode of one trial at a time on the same device gives the same bits."""


class Verified(NamedTuple):
    """How the first steps of a trial compare, run again alone.

    Example:
        >>> found = hw.sweeps.Verified("5ba02d62726e6aac", 8, False, 2e-7, 1e-3)
        >>> found.holds, found._replace(difference=0.1).holds
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
    """What it may be."""

    @property
    def holds(self) -> bool:
        """Whether it is the same trial, to the rounding."""
        return self.same_bits or self.difference <= self.rounding

    def __str__(self) -> str:
        """One line."""
        found = "the same bits" if self.same_bits else "other bits"
        values = f"values differ by {self.difference:.1e} (at most {self.rounding:g})"
        state = "holds" if self.holds else "DOES NOT HOLD"
        return f"trial {self.trial}: {self.steps} steps: {found}, {values}: {state}"


def verify(
    program: _program.Program | Callable[..., _program.Program],
    folder: str | os.PathLike,
    trial: str | Mapping[str, Any],
    *,
    steps: int | None = None,
) -> Verified:
    """Runs one trial of a study again, alone, for its first steps, and compares.

    A study of a cluster can so be checked on a laptop. Nothing is written.

    Args:
        program: as `run` was given.
        folder: of the study.
        trial: its key (the name of its file in `done`), or how that begins; or its
            record.
        steps: how many; None: until the second digest that its record has.

    Returns:
        `Verified`: `holds` says whether the digests of the states are the same, or all
        reported numbers are to `rounding`; as a text it is one line.

    Raises:
        ValueError: no trial of the study, or several, have such a key.
        StudyError: the trial has no digests: it is not of a program.

    Example:
        >>> import tempfile
        >>> def step(state, t):
        ...     return {**state, "x": state["x"] + state["a"]}, {"values": state}
        >>> program = hw.sweeps.Program(
        ...     init=lambda trial: {"x": jnp.zeros(()), **trial["weights"]},
        ...     step=step,
        ...     evaluate=lambda state: {"x": state["x"]},
        ... )
        >>> folder, design = tempfile.mkdtemp(), {"a": [0.5, 1.0]}
        >>> options = {"mode": "scan", "folder": folder, "progress": False}
        >>> first, _ = hw.sweeps.run(program, design, steps=8, **options)
        >>> print(hw.sweeps.verify(program, folder, first).same_bits)
        True
    """
    cohort, at = _found(pathlib.Path(folder), trial)
    key = str(cohort["trials"][at])
    record = _record(folder, key, cohort["rows"][at])
    digests = {int(t): text for t, text in (record.get("digests") or {}).items()}
    if not digests:
        raise _study.StudyError(
            f"trial {key}: has no digests to compare with (a plain function trained "
            "it, or it broke at once)"
        )
    whole = int(record["settings"]["steps"])
    marks = [mark for mark in _job.marks(whole) if mark in digests]
    until = marks[:2][-1] if steps is None else _checks.positive_int("steps", steps)
    until = min(until, whole)
    one = _trials.Trial(**cohort["rows"][at])
    varied = [name for name in cohort["static"] if name in one.varied]
    stacked = _trials.stacked([one], varied)
    made = _groups.made(program, cohort["static"])
    run = _modes.cohort(made, "scan", stacked, every=1, steps=whole)
    members, rows = run.start(stacked), []
    same, done = [], 0
    for end in sorted({*(mark for mark in marks if mark < until), until}):
        members, reports = run.advance(members, end - done, end)
        rows.append(reports)
        done = end
        if end in digests:
            members = run.mark(members, [True])
            same.append(f"{int(members.digest[0]):08x}" == digests[end])
    kept = _read.curves(folder, record)
    bits = bool(same) and all(same)
    return Verified(key, until, bits, _difference(rows, kept), ROUNDING)


def _found(
    folder: pathlib.Path, trial: str | Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """The cohort that trained a trial, and its place there."""
    name = trial if isinstance(trial, str) else _done.key_of(trial)
    found = {
        str(key).split(".")[0]: (cohort, at)
        for cohort in _read.cohorts(folder).values()
        for at, key in enumerate(cohort.get("trials", ()))
        if str(key).startswith(name) and "static" in cohort
    }
    if len(found) != 1:
        raise ValueError(
            f"trial: expected the key of one trial of {folder}, or how it begins, got "
            f"{name!r}, which {len(found) or 'no'} trials have"
        )
    return next(iter(found.values()))


def _record(
    folder: str | os.PathLike, key: str, row: Mapping[str, Any]
) -> dict[str, Any]:
    for record in _read.read(folder):
        if _done.key_of(record) == key.split(".")[0]:
            return dict(record)
    raise ValueError(f"trial: {key} is not done yet")


def _difference(rows: list[Any], kept: Mapping[str, Any]) -> float:
    """Between what was reported now and then, in the steps that both have."""
    now: dict[int, dict[str, Any]] = {}
    for reports in rows:
        flat = dict(_columns.flat(reports.report))
        for row, t in enumerate(reports.t[:, 0]):
            now[int(t)] = {name: x[row, 0] for name, x in flat.items()}
    largest = np.nan
    before = dict(_columns.flat(kept))
    steps = before.pop("t", np.zeros(0, int))
    for name, curve in before.items():
        for row, t in enumerate(steps):
            if int(t) not in now or name not in now[int(t)]:
                continue
            a, b = (np.asarray(x, np.float64) for x in (now[int(t)][name], curve[row]))
            both = np.isfinite(a) & np.isfinite(b)
            scale = max(float(np.max(np.abs(curve), initial=0.0)), 1e-30)
            error = np.abs(np.where(both, a - b, 0.0)) / scale
            largest = np.fmax(largest, np.max(error, initial=0.0))
    return float(largest)
