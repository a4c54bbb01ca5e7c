"""What a run keeps in its workdir: settings, records, checkpoints, and how it goes on.

A run without a workdir keeps nothing, and goes the same way.
"""

import contextlib
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from headwise import _hosts
from headwise import _records
from headwise.training import _checkpoints
from headwise.training import _due
from headwise.training import _metrics
from headwise.training import _resume
from headwise.training import _tracker
from headwise.training import _window
from headwise.training import _workdir

StateT = TypeVar("StateT")

_LOG = logging.getLogger("headwise")


class Kept:
    """The workdir of a run, held until `opened` is closed.

    Args:
        opened: closes what is opened here.
        workdir: None: nothing is kept.
        settings, track: as `fit` takes them.

    Raises:
        WorkdirError: it is in use, or of another run.
        ValueError: without it there is nothing to track.
    """

    def __init__(
        self,
        opened: contextlib.ExitStack,
        workdir: str | os.PathLike | None,
        settings: Mapping[str, Any] | None,
        track: Any = None,
    ):
        self._opened = opened
        self._writer: _metrics.MetricsWriter | None = None
        self._budget = _due.Budget()
        self.checkpoints: _checkpoints.Checkpoints | None = None
        self.program: Any = None
        """Of `_fingerprint.program`: which step it is that makes the checkpoints."""
        self._track = _tracker.all_of(track)
        if workdir is None:
            if self._track:
                raise ValueError(
                    "track: expected a workdir too (it keeps the run's id)"
                )
            return
        self.path = opened.enter_context(_workdir.hold_workdir(workdir))
        if settings is not None:
            settings = _records.json_settings(settings)
            _workdir.claim(self.path, settings, {}, alone=False)
        self.checkpoints = _checkpoints.Checkpoints(self.path / "checkpoints")
        opened.enter_context(self.checkpoints)

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return self.checkpoints is not None

    def folder(self, name: str) -> pathlib.Path | None:
        """A folder inside, None if nothing is kept."""
        return self.path / name if self else None

    def go_on(
        self, state: StateT, first: int
    ) -> tuple[StateT, _window.Window, list[dict[str, Any]]]:
        """The state, window and records to go on from, at step `first`."""
        if self.checkpoints is None:
            return state, _window.empty(), []
        state, changed = _resume.resume(self.checkpoints, state, self.program)
        known = _resume.read(self.checkpoints)
        window = _window.from_text(known["window"])
        window["changed"] += changed

        def records() -> list[dict[str, Any]]:
            writer = _metrics.MetricsWriter(
                self.path, first, known["recorded"], self._track
            )
            self._writer = self._opened.enter_context(writer)
            return list(writer.history)

        there = _hosts.of_first(records)
        self._budget = _due.Budget()
        return state, window, there

    def write(self, record: Mapping[str, Any], durable: bool = False) -> None:
        """Adds a record, as `MetricsWriter.write` does."""

        def write() -> None:
            assert self._writer is not None
            self._writer.write(record, durable)

        if self:
            _hosts.of_first(write)

    def stopped(self, done: int, signal: str) -> None:
        """Waits for the checkpoint of step `done`, and says how to go on."""
        if self.checkpoints is not None:
            self.checkpoints.wait()
            _LOG.warning(
                "%s: stopped by %s after step %d, which is saved: the same call goes "
                "on from there",
                self.path,
                signal,
                done,
            )

    def may_save(self) -> bool:
        """Whether a checkpoint may be written that nobody asked for."""
        return self.checkpoints is not None and _hosts.shared(self._budget.left())

    def poll(self) -> None:
        """Raises what stopped a checkpoint that was being written."""
        if self.checkpoints is not None:
            self.checkpoints.poll()

    def save(
        self,
        done: int,
        state: Any,
        batches: Any,
        window: _window.Window,
        recorded: int | None,
    ) -> None:
        """Starts to write a checkpoint.

        Args:
            done: number of steps done.
            state: after them.
            batches: where the batches are then, None if they cannot say.
            window: of the record that is being gathered.
            recorded: step of the newest record.
        """
        if self.checkpoints is None:
            return
        text = _window.to_text(window)
        note = _resume.note(state, self.program, batches, text, recorded)
        with self._budget:
            self.checkpoints.save(done, state, note)
