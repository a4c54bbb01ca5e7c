"""The records of a sweep: in memory, and in a folder that other processes fill too."""

import logging
import os
import pathlib
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _files
from headwise import _records
from headwise.sweeps import _locks
from headwise.sweeps import _study

_LOG = logging.getLogger("headwise")
_PAUSE = 0.5
"""Seconds between two looks at what another process does."""


class Kept:
    """What is done of these trials, and which of the others are this process's.

    Args:
        folder: of the study; None keeps nothing on disk.
        trials: identities, in the order in which they are to be run.
        made_by: what `train` is, of `_provenance.function`.
        retry: whether records that are not finite count as not there.

    Raises:
        StudyError: the folder has records of these trials by another `train`.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None,
        trials: Sequence[str],
        made_by: Mapping[str, Any],
        retry: bool,
    ):
        self.done: dict[str, _records.Record] = {}
        self._folder, self._trials, self._made_by = folder, trials, made_by
        self._retried: dict[str, _records.Record] = {}
        self._claims = None
        if folder is None:
            return
        self._file = _records.file_of(folder)
        self._read()
        if retry:
            self._retried = {n: r for n, r in self.done.items() if not r["finite"]}
            self.done = {n: r for n, r in self.done.items() if r["finite"]}
        if self._open():
            self._claims = _locks.Claims(self._file)

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._claims is not None:
            self._claims.close()

    def take(self, most: int) -> list[str]:
        """Trials to run now, at most so many; [] when all are done.

        Waits while all that are left are another process's; if that one dies, they
        are this one's.
        """
        told = False
        while left := self._open():
            if self._claims is None:
                return left[:most]
            taken = self._claims.take(left, most)
            if _size(self._file) != self._seen:  # before the claim, another may have
                self._read()
            mine = [trial for trial in taken if trial not in self.done]
            self._claims.release(trial for trial in taken if trial in self.done)
            if mine:
                return mine
            if not taken:
                if not told:
                    _LOG.warning(
                        "%s: another process runs %d trials of it: waiting",
                        self._folder,
                        len(left),
                    )
                told = True
                time.sleep(_PAUSE)
        return []

    def keep(self, trials: Sequence[str], records: Sequence[_records.Record]) -> None:
        """Their records; one after the other on disk before this returns."""
        self.done.update(zip(trials, records, strict=True))
        if self._claims is not None:
            _records.append(self._file, *records)
            # What others have written makes it more: then the file is read again.
            self._seen += sum(len(_files.json_line(record)) for record in records)
            self._claims.release(trials)

    def _open(self) -> list[str]:
        return [trial for trial in self._trials if trial not in self.done]

    def _read(self) -> None:
        self._seen = _size(self._file)
        kept = {_records.identity(r): r for r in _records.read(self._file)}
        found = {trial: kept[trial] for trial in self._trials if trial in kept}
        _check_train(self._folder, self._made_by, list(found.values()))
        self.done.update({n: r for n, r in found.items() if r != self._retried.get(n)})


def _size(file: pathlib.Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _check_train(
    folder: str | os.PathLike | None,
    now: Mapping[str, Any],
    records: Sequence[_records.Record],
) -> None:
    """Raises StudyError if records that would be given back are of another `train`.

    Where both texts are known they decide, and the name does not: it may have moved.
    """
    for record in records:
        before = record["made_with"].get("train")
        if before is None:  # an older record
            continue
        lines = []
        if None in (before["source"], now["source"]):
            if before["name"] != now["name"]:
                lines.append(f"it was {before['name']}, is {now['name']}")
        elif before["source"] != now["source"]:
            lines.append(f"the text of {before['name']} is not that of {now['name']}")
        for name in sorted({*before["uses"], *now["uses"]}):
            was, is_ = (by["uses"].get(name, "not set") for by in (before, now))
            if was != is_:
                lines.append(f"{name} was {was}, is {is_}")
        if lines:
            raise _study.StudyError(
                f"folder {folder}: its trials were run by another train: "
                f"{'; '.join(lines)} (give another folder, or other settings: trials "
                "with others are other trials)"
            )
