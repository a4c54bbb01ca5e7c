"""One trial of a study again, alone, for its first steps: are they the same?"""

import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from headwise import _checks
from headwise import _columns
from headwise import _program
from headwise import _provenance
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _done
from headwise.sweeps._store import _read
from headwise.sweeps._store import _study
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _groups
from headwise.sweeps._work import _job
from headwise.sweeps._work._verified import Verified

TOGETHER = 1e-5
"""What a reported number may differ by, as a part of the largest one of its curve, if
the trial ran beside others in one program and runs alone now: sums in another order.
Measured over the first 24 to 100 steps of networks with Adam."""
ELSEWHERE = 1e-3
"""The same on another kind of device, or by other versions: other programs, and
products of fewer digits."""
_PACKAGES = ("headwise", "jax", "jaxlib", "flax", "optax", "numpy")


def verify(
    program: _program.Program | Callable[..., _program.Program],
    folder: str | os.PathLike,
    trial: str | Mapping[str, Any],
    *,
    steps: int | None = None,
) -> Verified:
    """Runs one trial of a study again, alone, for its first steps, and compares.

    A study of a cluster can so be checked on a laptop. Nothing is written.

    How near it has to come is a matter of the trial's mode. `scan`, `loop` and
    `threads` run one trial at a time: the same bits. In `vmap` and `shard` others ran
    in the same program: 1e-5. On another kind of device, or with other versions: 1e-3
    in any mode, and the result says what differs.

    Args:
        program: as `run` was given.
        folder: of the study.
        trial: its key (the name of its file in `done`), or how that begins; or its
            record.
        steps: how many; None: until the second digest that its record has.

    Returns:
        `Verified`: `holds` says whether the digests of the states are the same, or,
        where they need not be, all reported numbers are to `rounding`; as a text it
        says which trial, which steps, and what was found.

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
    mode = cohort["mode"]
    alone = "vmap" if mode == "shard" else mode
    run = _modes.cohort(made, alone, stacked, every=1, steps=whole)
    members, rows = run.start(stacked), []
    same, done = {}, 0
    for end in sorted({*(mark for mark in marks if mark < until), until}):
        members, reports = run.advance(members, end - done, end)
        rows.append(reports)
        done = end
        if end in digests:
            members = run.mark(members, [True])
            same[end] = f"{int(members.digest[0]):08x}" == digests[end]
    difference, values_at = _difference(rows, _read.curves(folder, record))
    elsewhere = tuple(_elsewhere(record["made_with"]))
    rounding = 0.0 if mode not in ("vmap", "shard") else TOGETHER
    return Verified(
        trial=key,
        steps=until,
        same_bits=bool(same) and all(same.values()),
        difference=difference,
        rounding=ELSEWHERE if elsewhere else rounding,
        mode=mode,
        what=_ends.words(one),
        digests_at=tuple(same),
        values_at=values_at,
        elsewhere=elsewhere,
    )


def _elsewhere(made: Mapping[str, Any]) -> list[str]:
    """What differs between what made a record and what is here, in words."""
    now = _provenance.made_with()
    pairs = []
    before, here = (x.get("device") or {} for x in (made, now))
    pairs += [("the device", *(x.get("kind") for x in (before, here)))]
    if here.get("backend") == "cpu":  # all CPUs are of one kind to JAX
        pairs += [("the host", *(x.get("host") for x in (made, now)))]
    before, here = (x.get("versions") or {} for x in (made, now))
    pairs += [(name, before.get(name), here.get(name)) for name in _PACKAGES]
    return [f"{name} was {was}, is {is_}" for name, was, is_ in pairs if was != is_]


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


def _difference(
    rows: list[Any], kept: Mapping[str, Any]
) -> tuple[float, tuple[int, ...]]:
    """Between what was reported now and then, and in which steps: those of both."""
    now: dict[int, dict[str, Any]] = {}
    for reports in rows:
        flat = dict(_columns.flat(reports.report))
        for row, t in enumerate(reports.t[:, 0]):
            now[int(t)] = {name: x[row, 0] for name, x in flat.items()}
    largest, both_have = np.nan, set()
    before = dict(_columns.flat(kept))
    steps = before.pop("t", np.zeros(0, int))
    for name, curve in before.items():
        for row, t in enumerate(steps):
            if int(t) not in now or name not in now[int(t)]:
                continue
            both_have.add(int(t))
            a, b = (np.asarray(x, np.float64) for x in (now[int(t)][name], curve[row]))
            both = np.isfinite(a) & np.isfinite(b)
            scale = max(float(np.max(np.abs(curve), initial=0.0)), 1e-30)
            error = np.abs(np.where(both, a - b, 0.0)) / scale
            largest = np.fmax(largest, np.max(error, initial=0.0))
    return float(largest), tuple(sorted(both_have))
