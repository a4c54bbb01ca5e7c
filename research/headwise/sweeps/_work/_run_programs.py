"""Runs the trials of programs, in the store of a study."""

import contextlib
import logging
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _checks
from headwise import _provenance
from headwise import _records
from headwise.sweeps._cohort import _memory_faults
from headwise.sweeps._cohort import _modes
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _store
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _job
from headwise.sweeps._work import _live
from headwise.sweeps._work import _made_by
from headwise.sweeps._work import _programs
from headwise.sweeps._work import _searched
from headwise.sweeps._work import _wanted
from headwise.sweeps._work import _work

_LOG = logging.getLogger("headwise")


def run(
    program: Any,
    rows: Sequence[_trials.Trial],
    *,
    steps: int | None,
    static: Sequence[str],
    settings: Mapping[str, Any],
    folder: str | os.PathLike | None,
    how: _programs.How,
    checkpoint_every: float | None,
    report_every: int | None,
    progress: bool,
    retry: bool,
    stop_on_failure: bool,
    search: Any,
    halving: Any,
    batched: bool,
    cohorts: int | None,
) -> list[_records.Record]:
    """As `hw.sweeps.run`, of programs and these trials."""
    if steps is None:
        raise ValueError("steps: expected a positive int, got None")
    given = {"size": how.size, "report_every": report_every}
    there = {name: number for name, number in given.items() if number is not None}
    for name, count in {"steps": steps, "workers": how.workers, **there}.items():
        _checks.positive_int(name, count)
    if checkpoint_every is not None:
        _checks.nonnegative("checkpoint_every", checkpoint_every)
    if batched:
        raise ValueError(
            "batched: expected a plain train, got a program: mode='vmap' is the same"
        )
    _checks.choice("mode", ("auto", *_modes.MODES), how.mode)
    settings = _with_steps(settings, steps)
    job = _job.Job(
        steps,
        tuple(static),
        _ends.Maker(settings, {}),
        report_every or -(-steps // 100),
        checkpoint_every,
        halving,
        stop_on_failure,
    )
    text = {"a study of": "programs", "program": _made_by.study(program)}
    text |= {"settings": settings}
    if halving is not None:
        halving.below(steps)
        text["halving"] = halving._asdict()
    if search is not None:
        text["search"] = search.text
    groups = _programs.Groups(program, static)
    groups.split(rows)  # what is wrong with a program is said before a folder is made
    with _store.open(folder, text) as store, _live.live(progress) as view:
        wanted = _wanted.Wanted(settings, store, retry, lambda records: None)
        names = wanted.add(rows)
        programs = _programs.Programs(groups, wanted, store, job, how, view)
        asked = _searched.Asked(search, store, wanted)
        with _told(store, wanted):
            _work.work(
                store,
                wanted.left,
                programs.compose,
                programs.carry_out,
                more=asked.more,
                say=view.say,
                cohorts=cohorts,
            )
        done = wanted.done()
        asked.project()
    if told := _memory_faults.told(list(done.values()), folder):
        _LOG.warning(told)
    return [done[name] for name in names + asked.names if name in done]


def _with_steps(settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Settings of which the steps are one: they decide what comes out."""
    if settings.get("steps", steps) != steps:
        raise ValueError(
            f"settings['steps']: expected that of steps, {steps}, got "
            f"{settings['steps']}"
        )
    return {**settings, "steps": steps}


@contextlib.contextmanager
def _told(store: Any, wanted: _wanted.Wanted) -> Iterator[None]:
    """Writes down who works on a study, and how that ends."""
    made = _provenance.made_with()
    here = {name: made[name] for name in ("host", "device", "versions")}
    store.event("start", pid=os.getpid(), trials=len(wanted.trials), **here)
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        why = f"{type(error).__name__}: {error}"
        if not stopped:
            store.event("error", why=why)
        store.event("end", code=75 if stopped else 1, why=why)
        raise
    left = len(wanted.left())
    why = f"as asked; {left} trials are left" if left else "all trials are done"
    store.event("end", code=75 if left else 0, why=why)
