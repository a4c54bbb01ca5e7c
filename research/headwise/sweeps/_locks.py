"""Which trials of a study another process is training: locks that end with it."""

import hashlib
import logging
import pathlib
from collections.abc import Iterable

try:
    import fcntl
except ImportError:  # no such locks on this system: every claim succeeds
    fcntl = None  # type: ignore[assignment]

_LOG = logging.getLogger("headwise")


class Claims:
    """The trials of a study, by the file of its records, that this process trains.

    One byte of an empty file beside it stands for a trial, and a lock of it for a
    claim: the kernel lets go when the process ends, also by `kill -9`, and on a shared
    disk. Where a disk has no locks every claim succeeds, and a line says so.
    """

    def __init__(self, records: pathlib.Path):
        records.parent.mkdir(parents=True, exist_ok=True)
        self._file = records.with_name(f".{records.stem}.lock").open("ab")

    def close(self) -> None:
        """Ends every claim."""
        self._file.close()

    def take(self, trials: Iterable[str], most: int) -> list[str]:
        """Those of the trials, by identity, that no other process has; at most some."""
        taken: list[str] = []
        for trial in trials:
            if len(taken) == most:
                break
            if self._lock(trial):
                taken.append(trial)
        return taken

    def release(self, trials: Iterable[str]) -> None:
        """Gives trials back."""
        for trial in trials:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(trial))

    def _lock(self, trial: str) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(trial))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            _LOG.warning("%s: no locks here (%s)", self._file.name, error.strerror)
        return True


def _byte(trial: str) -> int:
    return int.from_bytes(hashlib.sha256(trial.encode()).digest()[:7])
