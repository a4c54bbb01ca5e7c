"""Signs of life: a counter that a worker's thread moves on, and others watch.

A file of one writer holds the counter and what the worker says it does. It holds no
time by which others would judge it: clocks of hosts differ. Who wants to know whether a
worker lives looks twice, and measures between the looks on a clock of its own.
"""

import logging
import math
import pathlib
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise.sweeps._store import _events
from headwise.sweeps._store import _links

_LOG = logging.getLogger("headwise")


class Beats:
    """Beats until it is closed, in a thread that ends with the process.

    Args:
        path: of this worker's file, in a folder that is there.
        period: seconds between two beats.
        who: what tells the worker's process; kept beside the counter.
    """

    def __init__(self, path: pathlib.Path, period: float, who: Mapping[str, Any]):
        self._path, self._period, self._who = path, period, dict(who)
        self._count, self._wrote = 0, -math.inf
        self._says: dict[str, dict[str, Any]] = {}
        self._beating, self._closed = threading.Lock(), threading.Event()
        self._silent = False
        self._thread: threading.Thread | None = None

    def say(self, name: str, word: str | None, **numbers: Any) -> None:
        """What is done with something from now on; a word of None: it is let go.

        Args:
            name: of a claim.
            word: `running`, `compiling`.
            **numbers: how far it is; what JSON can hold.
        """
        if self._closed.is_set():
            return
        with self._beating:
            before = self._says.pop(name, None)
            if word is not None:
                self._says[name] = {"word": word} | numbers
        same = (before or {}).get("word") == word
        if not same or time.monotonic() - self._wrote >= self._period:
            self._beat()
        if self._thread is None:
            # A long compile of the main thread is no death.
            self._thread = threading.Thread(
                target=self._run, name="headwise-beats", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """No beat comes after this."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._period):
            self._beat()

    def _beat(self) -> None:
        with self._beating:
            self._count, self._wrote = self._count + 1, time.monotonic()
            line = {"count": self._count, "says": dict(self._says), **self._who}
            try:
                data = _links.text(_events.plain(line))
                _files.write_atomically(self._path, data, durable=False)
                self._silent = False
            except OSError as error:  # what matters is written, and told, elsewhere
                if not self._silent:
                    _LOG.warning("%s: no sign of life: %s", self._path, error)
                self._silent = True


def read(folder: pathlib.Path, worker: str) -> dict[str, Any] | None:
    """The last sign of life of a worker of a study: its counter, what it says, who.

    None if there is none that can be read.
    """
    try:
        return _links.read(folder / "beats" / f"{worker}.json")
    except ValueError:
        return None


class Watch:
    """For how long others have stood still, on the clock of this process.

    Args:
        read: gives what a worker's file holds by its name, None if there is none.
    """

    def __init__(self, read: Callable[[str], Mapping[str, Any] | None]):
        self._read = read
        self._seen: dict[str, tuple[Any, float]] = {}

    def still(self, worker: str) -> float:
        """Seconds since the counter was first seen to stand where it stands now."""
        count = (self._read(worker) or {}).get("count")
        now = time.monotonic()
        before = self._seen.get(worker)
        if before is None or before[0] != count:
            self._seen[worker] = (count, now)
            return 0.0
        return now - before[1]
