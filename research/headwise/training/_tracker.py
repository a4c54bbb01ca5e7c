"""Records that also go elsewhere: what a tracker is, and what its failures are."""

import contextlib
import json
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from headwise import _files


class Tracker(NamedTuple):
    """Two functions that a run hands its records to, beside its own files.

    `fit(track=)` takes what opens one, `open(workdir, step, settings) -> Tracker`,
    when a run begins and when it goes on, after `step`, with what `run.json` holds, by
    path (`{"net/width": 3}`).

    Args:
        write: `write(step, {path: number})`, for each record: what stands in a row of
            `metrics.csv`, and contributions.
        close: `close("finished")`, or "failed" or "killed", at the end.

    Example:
        >>> rows = []
        >>> def memory(workdir, step, settings):
        ...     return Tracker(lambda *row: rows.append(row), lambda ended: None)
        >>> tracker = memory("runs/mine", 0, {"lr": 0.1})
        >>> tracker.write(10, {"values/a": 0.5})
        >>> rows
        [(10, {'values/a': 0.5})]
    """

    write: Callable[[int, Mapping[str, float]], None]
    close: Callable[[str], None]


Open = Callable[[pathlib.Path, int, Mapping[str, Any]], Tracker]


def all_of(track: Open | Sequence[Open] | None) -> list[Open]:
    """What opens trackers, of an argument `track`.

    Raises:
        TypeError: it is no function, and no sequence of them.
    """
    if track is None:
        return []
    every = [track] if callable(track) else track
    if not isinstance(every, list | tuple) or not all(map(callable, every)):
        raise TypeError(
            "track: expected mlflow_tracker(), wandb_tracker(), a function "
            f"(workdir, step, settings) -> Tracker, or a list of them, got {track!r}"
        )
    return list(every)


class Trackers:
    """All trackers of a run: what one of them refuses is an OSError of one line."""

    def __init__(
        self,
        track: Sequence[Open],
        workdir: pathlib.Path,
        step: int,
        settings: Mapping[str, Any],
    ):
        self._opened: list[tuple[str, Tracker]] = []
        try:
            for one in track:
                name = getattr(one, "__name__", type(one).__name__)
                with _telling(name):
                    self._opened.append((name, one(workdir, step, settings)))
        except BaseException as error:
            self.close(error)
            raise

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Hands on a record."""
        for name, tracker in self._opened if numbers else ():
            with _telling(name):
                tracker.write(step, numbers)

    def close(self, error: BaseException | None = None) -> None:
        """Closes all; what they say of it is raised unless something else is."""
        killed = error is not None and not isinstance(error, Exception)
        ended = "killed" if killed else "finished" if error is None else "failed"
        first: OSError | None = None
        for name, tracker in self._opened:
            try:
                with _telling(name):
                    tracker.close(ended)
            except OSError as refused:
                first = first or refused
        if first is not None and error is None:
            raise first


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise OSError(f"track: {name}: {text}") from error


def note(path: pathlib.Path) -> dict[str, Any]:
    """What a tracker has kept of its run: {} at first."""
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        text = None
    if not isinstance(text, dict):
        raise OSError(f"{path} is damaged (remove it to begin a new run there)")
    return text


def once(
    path: pathlib.Path,
    known: Mapping[str, Any],
    log: Callable[[int, Mapping[str, float]], None],
) -> Callable[[int, Mapping[str, float]], None]:
    """`log` for the records that it has not had: a run goes on from a checkpoint.

    The note in `path` says how far it is; nothing can be taken back there.
    """
    done = int(known.get("step", 0))

    def keep(step: int) -> None:
        text = json.dumps({**known, "step": step})
        _files.write_atomically(path, text + "\n", durable=False)

    def write(step: int, numbers: Mapping[str, float]) -> None:
        if step > done:
            log(step, numbers)
            keep(step)

    keep(done)
    return write
