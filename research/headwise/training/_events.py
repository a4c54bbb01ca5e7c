"""Events for TensorBoard: a record is one event, written at once and whole."""

import json
import pathlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from headwise import _columns
from headwise import _files


def open_events(
    folder: pathlib.Path, step: int, settings: Mapping[str, Any]
) -> "Events | None":
    """A new file of events for the records after a step; None without tensorboardX."""
    try:
        import tensorboardX  # noqa: F401
    except ModuleNotFoundError:
        return None
    return Events(folder, step, settings)


class Events:
    """One file of events.

    Nothing waits in a buffer or for a thread, as it would in a `SummaryWriter`: a full
    disk is an error of the write that it stops, and a killed process loses no event.

    Settings make a run a row of the HParams tab. Which metrics there are is not said:
    the tab then shows all scalars of the runs.
    """

    def __init__(self, folder: pathlib.Path, step: int, settings: Mapping[str, Any]):
        from tensorboardX import summary
        from tensorboardX.proto import event_pb2

        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        with _files.writing(folder):
            folder.mkdir(exist_ok=True)
            self._file = (folder / name).open("xb", buffering=0)
        self._write(file_version="brain.Event:2")
        # Events of an earlier process after the step are not to be shown any more.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=step + 1, session_log=start)
        plain = {n: _hyperparameter(x) for n, x in settings.items() if x is not None}
        _, begin, self._end = summary.hparams(plain, {})
        if plain:
            self._write(step=step + 1, summary=begin)
        self._step, self._settings = step, plain

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds the numbers among the values as scalars, each under its own name."""
        from tensorboardX.proto import summary_pb2

        # Not `summary.scalar`: it writes "_" for many a letter, so that tags collide.
        scalars = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
            if name != "step" and _columns.is_number(value)
        ]
        self._write(step=step, summary=summary_pb2.Summary(value=scalars))
        self._step = step

    def _write(self, **parts: Any) -> None:
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import masked_crc32c

        event = event_pb2.Event(wall_time=time.time(), **parts).SerializeToString()
        size = struct.pack("<Q", len(event))
        sums = (struct.pack("<I", masked_crc32c(data)) for data in (size, event))
        with _files.writing(self._file.name):
            _files.append(self._file, size + next(sums) + event + next(sums))

    def close(self, done: bool) -> None:
        """Closes the file; a run that is done says so."""
        try:
            if done and self._settings:
                self._write(step=self._step, summary=self._end)
        finally:
            self._file.close()


def _hyperparameter(value: Any) -> str | float:
    return value if isinstance(value, str | int | float) else json.dumps(value)
