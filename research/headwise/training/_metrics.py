"""The metrics of a run: one JSON object a line, and TensorBoard events if wanted."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from headwise import _files


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics file, a dict each.

    Lines that are torn or no records are left out, with a warning that names them.

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
    return _files.read_lines(path, lambda line: isinstance(line.get("step"), int))


class MetricsWriter:
    """Appends records to `metrics.jsonl` and, if tensorboardX is there, to events.

    On resume the records after the restored step are dropped, so that the file of an
    interrupted run is the file of an uninterrupted one.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        self._path = workdir / "metrics.jsonl"
        kept = [r for r in read_metrics(self._path) if r["step"] <= step]
        _files.write_atomically(self._path, "".join(map(_files.json_line, kept)))
        self.history = kept
        self._events = None
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError:
            return
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes {"step": int, name: number or nested dict}."""
        # Not durable: a disk may be slower than the steps between two records, and a
        # run that lost power goes on from a checkpoint anyway.
        _files.append_lines(self._path, [record], durable=False)
        if self._events is not None:
            for name, value in flat(record):
                if name != "step" and isinstance(value, int | float):
                    self._events.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Closes the events."""
        if self._events is not None:
            self._events.close()


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """What a nested dict holds, in pairs: ("values/a", 0.5)."""
    pairs = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}/")
        else:
            pairs.append((prefix + name, value))
    return pairs
