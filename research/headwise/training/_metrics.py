"""The metrics of a run: one JSON object a line, and TensorBoard events if wanted."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from headwise import _files


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics file, a dict each; a torn last line is left out.

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
    return _files.read_records(path)


class MetricsWriter:
    """Appends records to `metrics.jsonl` and, if tensorboardX is there, to events.

    On resume the records after the restored step are dropped, so that the file of an
    interrupted run is the file of an uninterrupted one.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        path = workdir / "metrics.jsonl"
        kept = [r for r in read_metrics(path) if r["step"] <= step]
        _files.write_records(path, kept)
        self.history = kept
        self._file = path.open("a", buffering=1)
        self._events = None
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            return
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes {"step": int, name: number or nested dict}."""
        self._file.write(json.dumps(record) + "\n")
        if self._events is not None:
            for name, value in _flat(record):
                if name != "step" and isinstance(value, int | float):
                    self._events.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}/")
        else:
            found.append((prefix + name, value))
    return found
