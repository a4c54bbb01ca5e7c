"""The metrics of a run: one JSON object a line, a table, events, and trackers."""

import logging
import os
import pathlib
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _columns
from headwise import _files
from headwise.training import _events
from headwise.training import _table
from headwise.training import _tracker
from headwise.training import _workdir

_LOG = logging.getLogger("headwise")


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics file, a dict each.

    Lines that are torn or no records are left out, with a warning that names them. Of
    a step that is there twice the last record counts.

    Args:
        path: of `metrics.jsonl`, or of the workdir that holds it.

    Returns:
        Records in the order of the steps; [] if there is no file.

    Example:
        >>> read_metrics("/nowhere")
        []
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "metrics.jsonl"
    by_step = {line["step"]: line for line in _files.read_lines(path, _is_record)}
    return [by_step[step] for step in sorted(by_step)]


class MetricsWriter:
    """Appends records to `metrics.jsonl`, and shows them to other programs.

    As a table, `metrics.csv`, if tensorboardX is there as events, with what `run.json`
    holds as their hyperparameters, and to trackers. A context manager. On resume the
    records after the restored step are dropped, so that the files of an interrupted run
    are those of an uninterrupted one. Lines that are no records are moved to
    `metrics.jsonl.damaged`; they, and records that are missing before the step, are
    told (logger `headwise`).

    Raises:
        WorkdirError: a folder stands in place of a file, or a file in place of one.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        step: int,
        recorded: int | None = None,
        track: Sequence[_tracker.Open] = (),
    ):
        """Goes on after `step`; the newest record before it is that of `recorded`."""
        self._path = workdir / "metrics.jsonl"
        table, events = workdir / "metrics.csv", workdir / "tensorboard"
        _workdir.check_kinds(files=[self._path, table], folders=[events])
        with _files.writing(self._path):
            self.history = _take_up(self._path, step, recorded)
        with _files.writing(table):
            self._table = _table.Table(table, self.history)
        settings = dict(_columns.flat(_workdir.settings_of(workdir)))
        self._events = _events.open_events(events, step, settings)
        try:
            self._trackers = _tracker.Trackers(track, workdir, step, settings)
        except BaseException:
            self._close_files(False)
            raise

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes all files; an OSError if that of the records was removed."""
        try:
            self._close_files(error[0] is None)
        finally:
            self._trackers.close(error[1])
        if error[0] is None:
            with _files.writing(self._path):
                self._path.stat()

    def _close_files(self, done: bool) -> None:
        self._table.close()
        if self._events is not None:
            self._events.close(done)

    def write(self, record: Mapping[str, Any], durable: bool = False) -> None:
        """Writes {"step": int, name: number or nested dict}; all files show it now.

        A disk may be slower than the steps between two records, so that only what is
        `durable` survives a loss of power: what a checkpoint is going to follow.

        Raises:
            OSError: the disk is full, or the file was removed; names it, in one line.
        """
        with _files.writing(self._path):
            _files.append_lines(self._path, [record], durable, make=False)
        self._table.write(record)
        if self._events is not None:
            self._events.write(record["step"], dict(_columns.flat(record)))
        self._trackers.write(record["step"], _numbers(record))


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by path, without its step."""
    pairs = _columns.flat({n: x for n, x in record.items() if n != "step"})
    return {name: x for name, x in pairs if _columns.is_number(x)}


def _is_record(line: Mapping[str, Any]) -> bool:
    return type(line.get("step")) is int


def _take_up(
    path: pathlib.Path, step: int, recorded: int | None
) -> list[dict[str, Any]]:
    """The records up to a step, once each; what else the file holds is taken out."""
    found = _files.lines(path, _is_record)
    bad = [line for line in found if line.value is None]
    if bad and bad[-1] is found[-1] and not _ends_whole(path):
        # A kill has torn it; its step is trained again.
        torn = _files.numbered(path, [bad.pop()])
        warnings.warn(f"{torn} skipped: {_files.NO_RECORD}", stacklevel=4)
    if bad:
        aside = path.with_name(f"{path.name}.damaged")
        with aside.open("ab") as file:
            file.writelines(line.text + b"\n" for line in bad)
            file.flush()
            os.fsync(file.fileno())
        _LOG.warning("%s: no records, moved to %s", _files.numbered(path, bad), aside)
    by_step = {line.value["step"]: line for line in found if line.value is not None}
    kept = [by_step[at] for at in sorted(by_step) if at <= step]
    text = b"".join(line.text + b"\n" for line in kept)
    if not path.exists() or path.read_bytes() != text:
        _files.write_atomically(path, text)
    history = [line.value for line in kept if line.value is not None]
    last = history[-1]["step"] if history else 0
    if recorded is not None and last < recorded:
        _LOG.warning(
            "%s: records after step %s are missing: the checkpoint is of step %s",
            path,
            last,
            step,
        )
    return history


def _ends_whole(path: pathlib.Path) -> bool:
    return path.read_bytes().endswith(b"\n")
