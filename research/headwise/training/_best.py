"""The best parameters of a run: kept beside it, in memory and in the workdir.

Which record is the best follows from the records. Its parameters are written with the
next checkpoint of the run, and before it, so that a run that goes on finds what was
best when that was made.
"""

import functools
import logging
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _checks
from headwise import _files
from headwise import _hosts
from headwise import _trees
from headwise.training import _checkpoints
from headwise.training import _series
from headwise.training import _stop
from headwise.training import _workdir
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")


class Best(NamedTuple):
    """What `fit(best=)` returns: of the record in which a metric was best."""

    step: int
    """Number of steps done then."""
    value: float
    """Of the metric."""
    params: PyTree
    """To evaluate: those of `eval_params`, if that was given."""
    rest: PyTree
    """Other state of the model (running statistics)."""


def check(best: Any) -> tuple[str, str]:
    """The metric and the mode; raises unless it is a pair of them."""
    pair = isinstance(best, tuple | list) and len(best) == 2
    if not pair:
        raise TypeError(
            "best: expected a metric and what is better, such as "
            f"('validation/accuracy', 'max'), got {_checks.kind(best)}"
        )
    _checks.choice("best: mode", _stop.MODES, best[1])
    return _series.check("best", best[0]), best[1]


class Keeper:
    """Keeps the best so far; a context manager that waits for open writes.

    Args:
        metric, mode: of `check`.
        folder: where it is written; None where nothing is kept.
    """

    def __init__(self, metric: str, mode: str, folder: pathlib.Path | None):
        self._metric, self._mode = metric, mode
        self._folder = folder
        self._checkpoints: _checkpoints.Checkpoints | None = None
        self._written = True
        self.best: Best | None = None

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._checkpoints is not None:
            self._checkpoints.__exit__(*error)

    def start(self, first: int, history: Sequence[_series.Record], state: Any) -> None:
        """Takes up what was best when `first` steps were done.

        Args:
            first: the step that the run goes on from.
            history: the records up to there.
            state: then, with the parameters to evaluate.
        """
        if self._folder is not None:
            _hosts.of_first(functools.partial(_drop_later, self._folder, first))
            self._checkpoints = _checkpoints.Checkpoints(self._folder)
        points = _series.series("best", self._metric, history)
        then = _series.first_best(points, self._mode)
        if then is None:
            return
        if then.step == first:
            self._take(then, state)
        elif (kept := self._read(then, state)) is not None:
            self.best = kept
        else:
            _LOG.warning(
                "best: %s was best at step %d (%.6g), whose parameters are not kept; "
                "the best from step %d on will be",
                self._metric,
                then.step,
                then.value,
                first,
            )

    def see(self, record: _series.Record, state: Any) -> None:
        """Keeps the parameters to evaluate if the newest record is the best.

        Raises:
            ValueError: the record should hold the metric, and does not.
        """
        for point in _series.series("best", self._metric, [record]):
            if self.best is None or _series.is_better(
                point.value, self.best.value, self._mode
            ):
                self._take(point, state)

    def write(self, done: int) -> None:
        """Writes the best so far, if that was not done; returns when it is on disk."""
        if self._checkpoints is None or self.best is None or self._written:
            return
        step, value, params, rest = self.best
        note = {"step": step, "value": value, "metric": self._metric}
        self._checkpoints.save(done, {"params": params, "rest": rest}, note)
        self._checkpoints.wait()
        self._written = True

    def _take(self, point: _series.Point, state: Any) -> None:
        if point.value != point.value:
            return
        copy = _trees.copied((state.params, state.rest))
        self.best, self._written = Best(point.step, point.value, *copy), False

    def _read(self, then: _series.Point, state: Any) -> Best | None:
        """The best of the newest checkpoint, if that is the one of the records."""
        if self._checkpoints is None:
            return None
        try:
            note = self._checkpoints.note or {}
            if (note.get("metric"), note.get("step")) != (self._metric, then.step):
                return None
            like = {"params": state.params, "rest": state.rest}
            found = self._checkpoints.restore(like)
        except _workdir.WorkdirError as error:
            _LOG.warning("best: %s", error)
            return None
        return Best(then.step, then.value, found["params"], found["rest"])


def _drop_later(folder: pathlib.Path, first: int) -> None:
    """Removes what a run wrote after the checkpoint that it goes on from."""
    for path in folder.glob("[0-9]*"):
        if path.name.isdigit() and int(path.name) > first:
            with _files.writing(path):
                shutil.rmtree(path)
