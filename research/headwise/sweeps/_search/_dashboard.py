"""A search as a file for Optuna's dashboard: written whole, never read back."""

import datetime
import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from headwise import _files
from headwise import _records
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._search import _ask
from headwise.sweeps._search import _optuna


class _Lines:
    """What Optuna's journal writes to: a list in place of a file with a lock."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs.extend(json.loads(json.dumps(log)) for log in logs)


def project(
    study: _ask.Study,
    path: str | os.PathLike,
    records: Sequence[_records.Record],
    asked: Sequence[Sequence[Trial]],
) -> None:
    """Writes the journal of a study of Optuna's that shows the search so far."""
    known = _ask.by_trial(study, records)
    lines = _Lines()
    with _optuna.quiet() as optuna:
        shown = optuna.create_study(
            storage=optuna.storages.JournalStorage(lines),
            study_name="headwise",
            directions=_optuna.directions(list(study.highest.values())),
        )
        shown.set_metric_names(list(study.highest))
        for b, trials in enumerate(asked):
            for result in _ask.results(study, known, trials):
                shown.add_trial(_shown(optuna, study, b, result))
    text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in lines.logs)
    with _files.writing(path):
        _files.write_atomically(pathlib.Path(path), text)


def _shown(optuna: Any, study: _ask.Study, number: int, result: _ask.Result) -> Any:
    what: dict[str, Any] = {"user_attrs": {"batch": number, "seeds": study.seeds}}
    if not result.whole:
        state = "RUNNING"
    elif result.values is not None:
        state = "COMPLETE"
        names = study.constraints
        bounds = dict(zip(names, result.constraints or [], strict=True))
        what |= {"values": result.values, "constraints": bounds or None}
    elif any(not r["finite"] and not _records.halved(r) for r in result.records):
        state = "FAIL"
        what["user_attrs"]["error"] = next(
            r["error"] for r in result.records if r["error"] is not None
        )
    else:
        state = "PRUNED"
    trial = _optuna.frozen(optuna, study.ranges, result.point, state=state, **what)
    times = [r["made_with"]["time"] for r in result.records if "time" in r["made_with"]]
    if result.whole and len(times) == len(result.records):
        ended = datetime.datetime.fromisoformat(max(times)).replace(tzinfo=None)
        seconds = sum(r["seconds"] or 0 for r in result.records)
        trial.datetime_complete = ended
        trial.datetime_start = ended - datetime.timedelta(seconds=seconds)
    return trial
