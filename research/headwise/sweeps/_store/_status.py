"""How a study stands, seen from outside: any process, any time, nothing is written."""

import os
import pathlib
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise.sweeps._store import _beats
from headwise.sweeps._store import _claims
from headwise.sweeps._store import _done
from headwise.sweeps._store import _events
from headwise.sweeps._store import _links
from headwise.sweeps._store import _processes
from headwise.sweeps._store import _study


def status(
    folder: str | os.PathLike, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How far a study is, who works on it, and what broke.

    Whether a worker of another machine lives shows between two looks, by its `count`,
    on the clock of this process. The study may be under way; nothing is written.

    Args:
        folder: of a study that `hw.sweeps.run` made.
        before: what an earlier look of this process gave.

    Returns:
        {"text": what the study is, "made_with", "trials": how many are in its cohorts,
        or were asked of a worker, "done": how many have a record, "broken": how many of
        these are not finite,
        "cohorts": [{"number", "keys", "done", "state": "done", "open" (nobody's),
        "left" or "claimed", "worker", "epoch", and "mode", "size" where known}],
        "workers": [{"worker", "host", "pid", "since", "device", "versions", "engine"
        (as of `made_with`), "count", "says": {claim: {"word", and how far it is}},
        "alive": True, False or, if that cannot be known from here, None, "heard":
        seconds since its count was seen to move, None while it was not, "stands":
        (when its count was first seen as it is), "end": its last event of that kind,
        or None}],
        "frozen": [trials that broke: {"trial", and what is known of them}], "plan":
        the last event of that kind, or None, "unread": what could not be read, in
        words}.

    Raises:
        StudyError: no study is there, or what says what it is cannot be read.

    Example:
        >>> try:
        ...     hw.sweeps.status("/nowhere")
        ... except hw.sweeps.StudyError as error:
        ...     print(error)
        folder /nowhere: holds no study
    """
    path = pathlib.Path(folder)
    try:
        study = _links.read(path / "study.json")
    except ValueError as error:
        raise _study.StudyError(str(error)) from error
    if study is None:
        raise _study.StudyError(f"folder {path}: holds no study")
    records, unread = _done.read_all(path)
    events, torn = _events.read(path)
    cohorts, lost = _cohorts(path, records)
    keys = {key for cohort in cohorts for key in cohort["keys"]}
    broken = {key: r for key, r in records.items() if r["error"] is not None}
    return {
        "text": study.get("text"),
        "made_with": study.get("made_with"),
        "trials": max([len(keys | records.keys()), *map(_asked, events)]),
        "done": len(records),
        "broken": len(broken),
        "cohorts": cohorts,
        "workers": _heard(_workers(path, events), before),
        "frozen": _frozen(broken, events, records),
        "plan": _last(events, "plan"),
        "unread": unread + torn + lost,
    }


def _asked(event: Mapping[str, Any]) -> int:
    """How many trials a worker began with, most of which no cohort has yet."""
    number = event.get("trials") if event["kind"] == "start" else None
    return number if isinstance(number, int) else 0


def _cohorts(
    folder: pathlib.Path, records: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Every cohort and who has it; what could not be read."""
    newest, unread = _claims.newest(folder / "claims"), list[str]()
    found = []
    for path in sorted((folder / "cohorts").glob("*.json")):
        number = int(path.stem)
        cohort = _read(path, unread)
        keys = [str(key) for key in cohort.get("trials", ())]
        done = sum(key in records for key in keys)
        epoch, left = newest.get(number, (-1, False))
        state = "open" if epoch < 0 else "left" if left else "claimed"
        claim = _read(folder / "claims" / f"{number:06d}.{epoch}", unread)
        one = {
            "number": number,
            "keys": keys,
            "done": done,
            "state": "done" if done == len(keys) else state,
            "worker": claim.get("worker"),
            "epoch": epoch,
        }
        known = {name: cohort[name] for name in ("mode", "size") if name in cohort}
        found.append(one | known)
    return found, unread


def _workers(
    folder: pathlib.Path, events: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "beats").glob("*.json")):
        beat = _beats.read(folder, path.stem) or {"worker": path.stem}
        mine = [event for event in events if event["worker"] == path.stem]
        alive = _processes.is_alive(beat)
        found.append(beat | {"alive": alive, "end": _last(mine, "end")})
    return found


def _heard(
    workers: Sequence[Mapping[str, Any]], before: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The workers with what two looks tell: whether their counters move."""
    now = time.monotonic()
    known = {} if before is None else {one["worker"]: one for one in before["workers"]}
    found = []
    for one in workers:
        then = known.get(one["worker"])
        same = then is not None and then.get("count") == one.get("count")
        stands = then["stands"] if then is not None and same else now
        moves = then is not None and (not same or then["heard"] is not None)
        told = {"stands": stands, "heard": now - stands if moves else None}
        found.append({**one, **told})
    return found


def _frozen(
    broken: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    records: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Trials that broke: by their records, and by events of those that have none."""
    names = ("weights", "seed", "settings", "stopped", "error")
    found = {
        key: {"trial": key} | {name: record[name] for name in names}
        for key, record in broken.items()
    }
    for event in events:
        key = str(event.get("trial"))
        if event["kind"] == "frozen" and (key not in records or key in found):
            found[key] = dict(event) | found.get(key, {})
    return list(found.values())


def _last(events: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any] | None:
    mine = [dict(event) for event in events if event["kind"] == kind]
    return mine[-1] if mine else None


def _read(path: pathlib.Path, unread: list[str]) -> dict[str, Any]:
    try:
        return _links.read(path) or {}
    except ValueError as error:
        unread.append(str(error))
        return {}
