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
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _store
from headwise.sweeps._work import _choices
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _job
from headwise.sweeps._work import _live
from headwise.sweeps._work import _prepared
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
    how: _choices.How,
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
    if batched:
        raise ValueError(
            "batched: expected a plain train, got a program: mode='vmap' is the same"
        )
    if report_every is not None:
        _checks.positive_int("report_every", report_every)
    if checkpoint_every is not None:
        _checks.nonnegative("checkpoint_every", checkpoint_every)
    ready = _prepared.prepared(
        program,
        rows,
        steps=steps,
        static=static,
        settings=settings,
        folder=folder,
        how=how,
        retry=retry,
        search=search,
        halving=halving,
    )
    assert steps is not None, "it was checked"
    job = _job.Job(
        steps,
        tuple(static),
        _ends.Maker(ready.settings, {}),
        report_every or -(-steps // 100),
        checkpoint_every,
        halving,
        stop_on_failure,
    )
    with _store.open(folder, ready.text) as store, _live.live(progress) as view:
        wanted = _wanted.Wanted(ready.settings, store, retry, lambda records: None)
        names = wanted.add(rows)
        programs = _programs.Programs(
            ready.groups, ready.choices, wanted, store, job, view
        )
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


@contextlib.contextmanager
def _told(store: Any, wanted: _wanted.Wanted) -> Iterator[None]:
    """Writes down who works on a study, and how that ends."""
    made = _provenance.made_with()
    here = {name: made[name] for name in ("host", "device", "versions", "engine")}
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
