"""A store that keeps nothing: what a sweep without a folder works with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headwise import _columns
from headwise import _records
from headwise.typing import PyTree


class Claim:
    """A cohort that is this process's: there is no other one."""

    lost = released = False

    def __init__(self, number: int):
        self.number, self.epoch = number, 0

    def beat(self, word: str = "running", **numbers: Any) -> None:
        """Nobody listens."""

    def check(self) -> None:
        """It cannot be lost."""

    def release(self) -> None:
        """Nobody waits for it."""


class Store:
    """As `_store.Store`, for one process and as long as it runs.

    Checkpoints are not kept: nothing would be left to restore them for.
    """

    folder, worker = None, "alone"

    def __init__(self, text: Mapping[str, Any]):
        self.text = text
        self.chunks: dict[int, list[tuple[int, dict[str, np.ndarray]]]] = {}
        self._records: dict[str, _records.Record] = {}
        self._cohorts: list[dict[str, Any]] = []
        self._asks: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""

    def records(self) -> dict[str, _records.Record]:
        """{key: record} of all that is committed."""
        return dict(self._records)

    def older(self) -> list[_records.Record]:
        """There is nothing older."""
        return []

    def commit(self, key: str, record: _records.Record) -> str:
        """Commits a record, exactly once."""
        if key in self._records:
            return "equal" if self._records[key] == record else "differs"
        self._records[key] = record
        return "new"

    def cohorts(self) -> list[dict[str, Any]]:
        """All cohorts in their order."""
        return list(self._cohorts)

    def compose(self, number: int, text: Mapping[str, Any]) -> bool:
        """Makes the next cohort."""
        if number != len(self._cohorts):
            return False
        self._cohorts.append(dict(text))
        return True

    def claim(self, number: int) -> Claim:
        """Always given."""
        return Claim(number)

    def save(self, claim: Claim, step: int, tree: PyTree) -> None:
        """Keeps nothing."""

    def wait(self, claim: Claim) -> None:
        """Nothing is written."""

    def restore(self, number: int, like: PyTree) -> None:
        """Nothing was kept."""

    def curves(self, claim: Claim, ran: int, chunk: Mapping[str, Any]) -> None:
        """Keeps a chunk of reports."""
        flat = {name: np.asarray(array) for name, array in _columns.flat(chunk)}
        self.chunks.setdefault(claim.number, []).append((ran, flat))

    def finished(self, claim: Claim) -> None:
        """Nothing is left to drop."""

    def event(self, kind: str, **fields: Any) -> None:
        """Nobody reads it."""

    def asks(self, batch: int) -> dict[str, Any] | None:
        """The points of a batch."""
        return self._asks.get(batch)

    def ask(self, batch: int, text: Mapping[str, Any]) -> bool:
        """Fixes the points of a batch."""
        new = batch not in self._asks
        self._asks.setdefault(batch, dict(text))
        return new
