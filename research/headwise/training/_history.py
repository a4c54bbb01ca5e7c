"""The records of a run: what steps told is added up, closed, written and shown."""

import logging
from collections.abc import Sequence
from typing import Any

from headwise.training import _course
from headwise.training import _due
from headwise.training import _kept
from headwise.training import _progress
from headwise.training import _record
from headwise.training import _told
from headwise.training import _window

_LOG = logging.getLogger("headwise")
_IDLE = "step %d: nothing is trained, all weights and gradients are 0"


class History:
    """The records so far, and the window of the one to come.

    Args:
        records: those that are there.
        window: of the steps since the last of them.
        done: number of steps done.
        kept: where records are written.
        show: where they are shown.
    """

    def __init__(
        self,
        records: list[dict[str, Any]],
        window: _window.Window,
        done: int,
        kept: _kept.Kept,
        show: _progress.Show,
    ):
        self.records, self.window = records, window
        self._done, self._kept, self._show = done, kept, show
        self._new: list[_window.Columns] = []
        self._idle = False

    @property
    def last(self) -> int | None:
        """The step of the newest record."""
        return self.records[-1]["step"] if self.records else None

    def add(self, first: int, rows: Sequence[_told.Told]) -> None:
        """More of what steps told, from step `first` on."""
        for alike in rows:
            self._new.append(_window.columns(first, alike))
            first += _told.length(alike)

    def close(self, stop: _due.Stop) -> dict[str, Any]:
        """The record that is due there; its step alone if none is.

        Raises:
            NonFiniteError: a step up to there told what is not finite.
        """
        while self._done < stop.done:
            columns = self._new[0]
            whole = columns.first + len(columns.run)
            end = min(stop.done, whole)
            self.window = _window.added(self.window, columns, self._done, end)
            self._done = end
            if end == whole:
                del self._new[0]
        if not stop.record:
            return {"step": stop.done}
        _window.refuse_broken(self.window)
        record = _record.make_record(stop.done, self.window)
        if _record.is_idle(record) and not self._idle:
            _LOG.warning(_IDLE, stop.done)
        self._idle = True
        self.window = _window.told(self.window, stop.whole)
        return record

    def keep(self, record: dict[str, Any], durable: bool = False) -> None:
        """Takes up a record that holds more than its step, writes and shows it."""
        if len(record) > 1:
            self.records.append(record)
            self._kept.write(record, durable)
            self._show(record)


def validate_end(
    course: _course.Course,
    state: Any,
    records: list[dict[str, Any]],
    kept: _kept.Kept,
) -> None:
    """Validates the end of a run that is done, if that is not in its last record."""
    steps = int(state.step)
    there = records and records[-1]["step"] == steps
    end: dict[str, Any] = records.pop() if there else {"step": steps}
    if "validation" not in end:
        _LOG.warning("%s: the end was not validated, which is done now", kept.path)
        end["validation"] = course.validation(state)
        kept.write(end)
    records.append(end)
