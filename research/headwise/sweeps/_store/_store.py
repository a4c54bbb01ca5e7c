"""The store of a study: one folder that a person can read, and that nothing can spoil.

::

    STUDY/study.json              what the study is; taken once
         /cohorts/000000.json     which trials run together; taken in turn
         /claims/000000.0         who trains a cohort; a higher number takes it over
         /beats/WORKER.json       signs of life; replaced by one writer
         /events/WORKER.jsonl     what happened; appended by one writer
         /curves/000000/1200.0.npz  what was reported; chunks that never change
         /ckpt/000000.0/1200      checkpoints, a folder a claim
         /done/KEY.json           the record of a trial; taken once
         /slopes/KEY.json         which way to turn each weight of a trial; taken once
         /asks/000000.json        the points of an adaptive batch; taken once
         /trials.jsonl            the records once more, a line each, as they came

There is no lock: a file has one writer, or a name that can be taken once (`_links`).
Any number of processes on any number of hosts may do all that is here; what the disk
refuses is an OSError of one line, and the store is as it was before.
"""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise import _provenance
from headwise import _records
from headwise.sweeps._store import _beats
from headwise.sweeps._store import _claims
from headwise.sweeps._store import _curves
from headwise.sweeps._store import _done
from headwise.sweeps._store import _events
from headwise.sweeps._store import _in_memory
from headwise.sweeps._store import _links
from headwise.sweeps._store import _processes
from headwise.sweeps._store import _saved
from headwise.sweeps._store import _study
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")
_WHO = ("device", "versions", "revision", "engine")
_FOLDERS = ("cohorts", "claims", "beats", "events", "curves", "ckpt", "done", "asks")


def open(
    folder: str | os.PathLike | None,
    text: Mapping[str, Any],
    *,
    worker: str | None = None,
    stale: float = 90.0,
) -> "Store | _in_memory.Store":
    """The store of a study in a folder, made if need be; None: in memory.

    Args:
        folder: of the study.
        text: what the study is, plain JSON: all that changes results beside the trials.
        worker: a name for this process that no other has; made if None.
        stale: seconds after which a worker that stands still counts as dead.

    Raises:
        StudyError: the folder holds another study; nothing is written.
        OSError: it cannot be written, or the disk is full; one line.
    """
    text = _study.plain(text)
    if folder is None:
        return _in_memory.Store(text)
    return Store(_study.local(folder), text, worker or _processes.name(), stale)


def check(folder: str | os.PathLike, text: Mapping[str, Any]) -> set[str]:
    """Names of what is done in a folder, if it is there; writes nothing.

    Raises:
        StudyError: the folder holds another study.
    """
    path = _study.local(folder)
    _study.check(path, _study.plain(text))
    return {name.removesuffix(".json") for name in _links.names(path / "done")}


class Store:
    """A worker's view of a study's folder; a context manager, at its end it lets go."""

    def __init__(
        self, folder: pathlib.Path, text: Mapping[str, Any], worker: str, stale: float
    ):
        self.folder, self.text, self.worker = folder, text, worker
        there = _study.check(folder, text)
        with _files.writing(folder):
            for name in _FOLDERS:
                (folder / name).mkdir(parents=True, exist_ok=True)
            _saved.reserve(folder, 0)
        self._take = _links.way(folder)
        if not there:
            _study.begin(folder, text, self._take)
        made = _provenance.made_with()
        who = {"worker": worker} | _processes.me() | {"since": made["time"]}
        who |= {name: made[name] for name in _WHO}
        self._beats = _beats.Beats(folder / f"beats/{worker}.json", stale / 30, who)
        self._claims = _claims.Claims(
            folder / "claims",
            self._take,
            who,
            self._beats,
            lambda name: _beats.read(folder, name),
            stale,
        )
        self._events = _events.Events(folder / f"events/{worker}.jsonl")
        self._saved = _saved.Saved(folder / "ckpt")
        self._done = _done.Done(folder)
        self._cohorts: list[dict[str, Any]] = []

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self.close()
        except Exception as late:
            if error[0] is None:  # else what happened first is told
                raise
            _LOG.warning("%s", late)

    def close(self) -> None:
        """Waits for what is written, leaves all claims, and stops to beat."""
        try:
            self._saved.close_all()
        finally:
            try:
                self._claims.close()
            finally:
                self._beats.close()

    # Trials.

    def records(self) -> dict[str, _records.Record]:
        """{key: record} of all that is committed, by anyone; cheap when asked again."""
        return self._done.records()

    def older(self) -> list[_records.Record]:
        """Records of `trials.jsonl` that were not committed here: of older studies."""
        return self._done.older()

    def commit(self, key: str, record: _records.Record) -> str:
        """Commits the record of a trial, exactly once.

        Returns:
            "new"; or, if the trial has one already, whether it has the same results:
            "equal", "differs". The first one stays.
        """
        found = self._done.commit(key, record, self._take)
        if found == "new":
            self.event("done", trial=key, finite=record["finite"])
        else:
            self.event("duplicate", trial=key, result=found)
        return found

    # Cohorts.

    def cohorts(self) -> list[dict[str, Any]]:
        """All cohorts in their order, which is the same for everyone.

        One that cannot be read is {"trials": [], "unread": why}, and told.
        """
        while True:
            path = self.folder / "cohorts" / f"{len(self._cohorts):06d}.json"
            try:
                found = _links.read(path)
            except ValueError as error:
                _LOG.warning("%s: passed over", error)
                found = {"trials": [], "unread": str(error)}
            if found is None:
                return list(self._cohorts)
            self._cohorts.append(found)

    def compose(self, number: int, text: Mapping[str, Any]) -> bool:
        """Makes the next cohort; False if somebody was faster, or it is not the next.

        Who calls `cohorts` before, and calls both again after a False, puts no trial
        into two cohorts.
        """
        if number != len(self.cohorts()):
            return False
        path = self.folder / "cohorts" / f"{number:06d}.json"
        made = self._take(path, _links.text(_events.plain(text)))
        if made:
            self.event("cohort", cohort=number, trials=text.get("trials"))
        return made

    def claim(self, number: int) -> _claims.Claim | None:
        """A claim on a cohort; None while another worker has it. Never waits."""
        known = self._claims.held(number)
        claim = known or self._claims.take(number)
        if claim is not None and known is None:
            self.event("claim", cohort=number, epoch=claim.epoch)
        return claim

    # What a cohort leaves on its way.

    def save(self, claim: _claims.Claim, step: int, tree: PyTree) -> None:
        """Starts to write a checkpoint, after the one before; LostClaim if it is lost.

        Raises:
            OSError: the disk refuses it, or the one before, or is too full for it.
        """
        claim.check()
        self._saved.save(claim.name, step, tree)

    def wait(self, claim: _claims.Claim) -> None:
        """Waits until the last `save` is on disk; raises as `save`."""
        self._saved.wait(claim.name)

    def restore(self, number: int, like: PyTree) -> tuple[PyTree, int] | None:
        """The newest whole checkpoint of a cohort, by whoever wrote it, and its step.

        Raises:
            StudyError: all that are whole are of another state.
        """
        return self._saved.restore(number, like)

    def curves(self, claim: _claims.Claim, ran: int, chunk: Mapping[str, Any]) -> None:
        """Keeps a chunk of reports {name: [rows, K, ...]}, with "t": their steps."""
        claim.check()
        cohort = self.folder / "curves" / f"{claim.number:06d}"
        path = cohort / f"{ran}.{claim.epoch}.npz"
        _curves.write(path, chunk)

    def finished(self, claim: _claims.Claim) -> None:
        """All trials are committed: drops this claim's own checkpoints, and lets go."""
        self._saved.close(claim.name, remove=True)
        claim.release()

    def event(self, kind: str, **fields: Any) -> None:
        """Writes down what happened, for people."""
        self._events.add(kind, **fields)

    # Adaptive batches.

    def asks(self, batch: int) -> dict[str, Any] | None:
        """The points of a batch; None while nobody has asked for it."""
        return _links.read(self.folder / "asks" / f"{batch:06d}.json")

    def ask(self, batch: int, text: Mapping[str, Any]) -> bool:
        """Fixes the points of a batch; False if somebody was faster."""
        path = self.folder / "asks" / f"{batch:06d}.json"
        return self._take(path, _links.text(text))
