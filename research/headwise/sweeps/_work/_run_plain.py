"""Runs the trials of a plain function, in the store of a study."""

import functools
import logging
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _provenance
from headwise import _records
from headwise.sweeps._cohort import _memory_faults
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _store
from headwise.sweeps._work import _alone
from headwise.sweeps._work import _ends
from headwise.sweeps._work import _made_by
from headwise.sweeps._work import _plain
from headwise.sweeps._work import _progress
from headwise.sweeps._work import _searched
from headwise.sweeps._work import _wanted
from headwise.sweeps._work import _work

_LOG = logging.getLogger("headwise")
_TEXT = {"a study of": "functions of weights and seed"}
"""All such may share a folder: their trials say by whom they were run."""


def run(
    train: _alone.Train,
    rows: Sequence[_trials.Trial],
    search: Any,
    settings: Mapping[str, Any],
    folder: str | os.PathLike | None,
    *,
    batched: bool,
    progress: bool,
    retry: bool,
    stop_on_failure: bool,
    cohorts: int | None,
) -> list[_records.Record]:
    """As `hw.sweeps.run`, of a plain function and these trials."""
    made_by = _provenance.function(train)
    check = functools.partial(_made_by.check_train, folder, made_by)
    with _store.open(folder, _TEXT) as store:
        wanted = _wanted.Wanted(settings, store, retry, check)
        names = wanted.add(rows)
        with _progress.bar(progress, len(wanted.trials)) as bar:
            plain = _plain.Plain(
                train,
                wanted,
                store,
                _ends.Maker(settings, {"train": made_by}),
                batched,
                bar,
                stop_on_failure,
            )
            asked = _searched.Asked(search, store, wanted)
            _work.work(
                store,
                wanted.left,
                plain.compose,
                plain.carry_out,
                more=asked.more,
                cohorts=cohorts,
            )
            asked.project()
        done = wanted.done()
    if told := _memory_faults.told(list(done.values()), folder):
        _LOG.warning(told)
    return [done[name] for name in names + asked.names if name in done]
