"""Records that are committed: `done/KEY.json`, each name taken once.

A second attempt of a trial (KEY.1) is a trial of its own here; who reads a study takes
the last one. `trials.jsonl` gets a line for each, in the order in which they came: for
people and older tools, never for the store itself.
"""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise import _records
from headwise.sweeps._design import _trials
from headwise.sweeps._store import _links

_LOG = logging.getLogger("headwise")

_RESULT = ("weights", "seed", "settings", "metrics", "finite", "stopped", "digests")
"""What two records of one trial must agree in, wherever and how fast they were made."""


class Done:
    """The committed records of a study's folder, read once each."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._found: dict[str, _records.Record] = {}
        self._told: set[str] = set()

    def records(self) -> dict[str, _records.Record]:
        """{key: record}; what cannot be read is left out, and told once."""
        found, unread = read_all(self._folder, self._found)
        for text in unread:
            if text not in self._told:
                _LOG.warning("%s: left out", text)
        self._told.update(unread)
        self._found = found
        return dict(found)

    def older(self) -> list[_records.Record]:
        """Records that stand in `trials.jsonl` alone."""
        mine = {_records.identity(record) for record in self.records().values()}
        found = _records.read(self._folder)
        return [record for record in found if _records.identity(record) not in mine]

    def commit(self, key: str, record: _records.Record, take: _links.Take) -> str:
        """Gives "new", or what an earlier one is beside it: "equal", "differs"."""
        path = self._folder / "done" / f"{key}.json"
        if not take(path, _links.text(record)):
            try:
                before = read(path)
            except ValueError as error:
                # A flipped bit, a foreign hand: kept, and out of the way.
                aside = path.with_name(f"{path.name}.damaged")
                _LOG.warning("%s: moved to %s", error, aside.name)
                with _files.writing(path):
                    path.replace(aside)
                return self.commit(key, record, take)
            return "equal" if _result(before) == _result(record) else "differs"
        self._found[key] = record
        file = _records.file_of(self._folder)
        with _files.writing(file):
            _files.append_lines(file, [record], durable=False)
        return "new"


def read_all(
    folder: pathlib.Path, known: Mapping[str, _records.Record] | None = None
) -> tuple[dict[str, _records.Record], list[str]]:
    """{key: record} of a study's folder, and what could not be read, in words.

    Args:
        folder: of the study.
        known: records that were read before: they never change.
    """
    found, unread = dict(known or {}), []
    for name in _links.names(folder / "done"):
        key = name.removesuffix(".json")
        if key not in found and key != name:
            try:
                found[key] = read(folder / "done" / name)
            except ValueError as error:
                unread.append(str(error))
    return found, unread


def key_of(record: Mapping[str, Any]) -> str:
    """The key of a record's trial, without its attempt."""
    trial = _trials.Trial(dict(record["weights"]), record["seed"], {})
    return _trials.key(trial, record.get("settings") or {})


def attempt(key: str) -> int:
    """Which attempt of a trial a key is of: 0 for KEY, 1 for KEY.1."""
    end = key.partition(".")[2]
    return int(end) if end.isdigit() else 0


def read(path: pathlib.Path) -> _records.Record:
    """A committed record; ValueError, in one line, if it is none."""
    found = _links.read(path)
    if found is None or not _records.is_record(found):
        reason = "is not there" if found is None else "is no record"
        raise ValueError(f"{path}: {reason}")
    return _records.whole(found)


def _result(record: Mapping[str, Any]) -> str:
    return json.dumps({name: record.get(name) for name in _RESULT}, sort_keys=True)
