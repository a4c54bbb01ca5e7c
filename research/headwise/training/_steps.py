"""The steps of a run, in chunks or one after the other, and what they told.

A chunk may be given to the device before the records of the one before it are made, if
nobody wants the state between the two: then the host works while the device does.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any
from typing import TypeVar

import jax

from headwise import _fingerprint
from headwise import _trees
from headwise.training import _batch_programs
from headwise.training import _batches
from headwise.training import _chunks
from headwise.training import _due
from headwise.training import _feed
from headwise.training import _first_batch
from headwise.training import _flight
from headwise.training import _sharding
from headwise.training import _together
from headwise.training import _told
from headwise.training import _traceable

_LOG = logging.getLogger("headwise")

StateT = TypeVar("StateT")
Step = Callable[[StateT, Any], tuple[StateT, Any]]

SECONDS = 0.25
"""That a chunk takes at most, so that a bar moves, an interrupt acts and what is not
finite is seen."""
GROWTH = 8
"""How much longer a chunk may be than the one before it."""


def compiled(step: Step, state: StateT) -> tuple[Step, StateT]:
    """A jitted step, and a state whose arrays it may be given for good."""
    step = _first_batch.as_step(step)
    state = jax.tree.map(_trees.strong, state)
    if hasattr(step, "lower"):
        return step, _trees.separate(state)
    # The caller keeps the state that was given: only the copies are donated.
    return _sharding.compiled(step, state), _trees.copied(state)


class Steps:
    """Runs the steps of a run, each of its batch.

    Args:
        step: jitted.
        report: takes its place where that is due; None: never.
        periods: of the run.
        check: whether to look at the first batch.
        most: the most steps of a chunk; None: as many as are of use.
        together: asked between two steps whether to stop before the state is wanted,
            and told of a batch that cannot be read.
    """

    def __init__(
        self,
        step: Step,
        report: Step | None,
        periods: _due.Periods,
        check: bool,
        most: int | None,
        together: _together.Together,
    ):
        if report is not None and periods.report == 1:
            step, report, periods = report, None, periods._replace(report=None)
        self._step, self._report, self._periods = step, report, periods
        self._check, self._together = check, together
        self._most = _chunks.ROWS if most is None else most
        self._room = 1
        """The most steps of a chunk, 1: steps are run one by one. Known once begun."""
        self._begun = False
        self._programs: dict[_chunks.Kind, _chunks.Chunk] = {}
        self._size = 1
        self._flight: _flight.Flight | None = None
        self._free = False
        """Whether the next chunk may begin before the state is asked for."""
        self._feed: _feed.Made | _feed.Read

    def read(
        self, batches: Any, first: int, given: int, position: Any, keeps: bool
    ) -> Callable[[], None]:
        """Takes the batches from step `first` on, as `_batches.reader` does.

        Args:
            batches, first, given: as `_batches.reader` takes them.
            position: `saved` there.
            keeps: whether checkpoints ask where the batches stand.

        Returns:
            To be called at the end: gives back what was read and not used.
        """
        steps = self._periods.steps
        batch_of: Any = _batches.reader(batches, first, given, position)
        longest = min(self._most, self._periods.longest(first))
        self._room = _chunks.power_of_two(longest)

        def stand() -> Any:
            return _batches.position(batches, batch_of) if keeps else None

        self._host = functools.partial(_feed.Read, batch_of, stand)
        self._feed = self._host()
        if not callable(batches):
            return lambda: batch_of.give_back(self._unused())
        if self._room > 1:
            found = _traceable.trace(batches, first, steps, self._room)
            if isinstance(found, _batch_programs.Traced):
                self._feed = _feed.Made(found)
                if found.room == 1:
                    self._room = 1
            else:
                _LOG.info("batches: called for every step: %s", found.why)
                self._feed = self._host(found.given, found.still)
        return lambda: None

    def program(self, state: Any, first: int) -> Any:
        """Which step it is, for a checkpoint."""
        batch = self._together.each(self._feed.peek, first)
        return _fingerprint.program(self._step, state, batch)

    @property
    def at(self) -> Any:
        """Where the batches stand, None if they cannot say."""
        return self._feed.at

    def run(
        self, state: StateT, done: int, recorded: bool
    ) -> tuple[StateT, int, list[_told.Told]]:
        """Goes on from `done` steps to where the state is wanted, or not so far.

        Args:
            state: after so many steps; its arrays are given for good.
            done: steps.
            recorded: whether the state is wanted at the next record.

        Returns:
            The state, the number of steps done, and what the steps told.
        """
        if self._flight is None:
            if not self._begun:
                state = self._begin(state, done)
            self._free = False
            one_by_one = self._room == 1
            leg = self._periods.leg(done, recorded or one_by_one)
            if one_by_one or self._reports(done):
                return self._one_by_one(state, done, leg)
            block = self._feed.block(done, self._length(done, leg), self._room)
            if block.kind is None:
                with _flight.mark(done):
                    state, info = self._step(state, block.read[0][0])
                return state, done + 1, list(_told.stacked([info]))
            self._start(state, done, leg, block)
        return self._land()

    def ahead(self, state: StateT, done: int, wanted: Any) -> bool:
        """Begins the chunk after `done` steps, for `run` to wait for; whether it did.

        Not where the state is wanted before, and not where anything but the device
        could fail: that fails in `run`, when what is before it has been recorded.

        Args:
            state: its arrays are given for good if it begins.
            done: steps.
            wanted: whether the caller wants the state.
        """
        free = self._free and not wanted
        if not free or self._feed.ready not in self._programs:
            return False
        leg = self._periods.leg(done)
        block = self._feed.block(done, self._length(done, leg), self._room)
        self._start(state, done, leg, block)
        return True

    def _begin(self, state: StateT, first: int) -> StateT:
        self._begun = True
        if self._check or self._together.on:
            batch = self._together.each(self._feed.peek, first)
        if self._check:
            _first_batch.check_first_batch(self._step, state, batch)
        if self._room > 1:
            like = self._feed.like(first)
            state, room, why = _chunks.begun(self._step, state, like)
            self._room = min(self._room, room)
            if why is not None:
                _LOG.info("steps are run one by one: %s", why)
        if self._room == 1 and isinstance(self._feed, _feed.Made):
            self._feed.apart()
        return state

    def _reports(self, t: int) -> bool:
        return self._report is not None and _due.every(self._periods.report, t)

    def _one_by_one(
        self, state: StateT, done: int, most: int
    ) -> tuple[StateT, int, list[_told.Told]]:
        infos = []
        for t in range(done, most):
            take = self._step
            if self._report is not None and self._reports(t):
                take = self._report
            with _flight.mark(t):
                state, info = take(state, self._together.tried(self._feed.one, t))
            infos.append(info)
            if self._together.hurry():
                break
        return state, done + len(infos), list(_told.stacked(infos))

    def _start(self, state: Any, done: int, leg: int, block: _feed.Block) -> None:
        assert block.kind is not None
        chunk = self._programs.get(block.kind)
        if chunk is None:
            chunk = _chunks.chunk(self._step, state, block.kind, self._room)
            self._programs[block.kind] = chunk
        self._flight = _flight.start(chunk, state, block, done, leg)

    def _land(self) -> tuple[Any, int, list[_told.Told]]:
        """Waits for a chunk; the batches of the next one are read meanwhile."""
        assert self._flight is not None
        state, done, leg, block, wait, started = self._flight
        if done < self._periods.steps and not self._reports(done):
            length = self._length(done, self._periods.leg(done))
            self._feed.ahead(done, length, self._room)
        rows, self._flight = wait(), None
        seconds = max(time.perf_counter() - started, 1e-9)
        fitting = int(block.number * SECONDS / seconds)
        self._size = max(1, min(GROWTH * block.number, fitting))
        self._free = done < leg
        return state, done, [rows]

    def _unused(self) -> list[Any]:
        """The batches that were read and whose steps are not done."""
        read = [] if self._flight is None else self._flight.block.read
        return [*(batch for batch, _ in read), *self._feed.unused()]

    def _length(self, done: int, most: int) -> int:
        """Of the next chunk: whole records, where it can hold some."""
        end = min(most, done + min(self._size, self._room, self._most))
        whole = end - end % self._periods.log
        return (whole if done < whole and end < most else end) - done
