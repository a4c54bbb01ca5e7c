"""A study that others work on, watched: its table, and who works on what, in words."""

import contextlib
import os
import re
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _engine
from headwise.sweeps._store import _read
from headwise.sweeps._store import _status
from headwise.sweeps._store import _study
from headwise.sweeps._work import _live

_PERIOD = 1.0
"""Seconds between two looks."""
_LISTS = ("workers", "cohorts", "frozen", "unread")
_SHOWN = 20
"""Lines of a kind at most."""


@contextlib.contextmanager
def watch(
    folder: str | os.PathLike, trials: int | None = None, *, progress: bool = True
) -> Iterator[Callable[[], None]]:
    """Shows a study that other processes work on: a table, or a line now and then.

    Args:
        folder: of the study; it may come into being later.
        trials: how many there will be; None: those of its cohorts.
        progress: whether to show anything.

    Returns:
        A context manager; it gives a function without arguments to call again and
        again. Most calls do nothing.

    Example:
        >>> with hw.sweeps.watch("/nowhere") as look:
        ...     look()
    """
    last = -_PERIOD
    best: str | None = None
    said: set[str] = set()
    found: dict[str, Any] | None = None

    def look() -> None:
        nonlocal last, best, found
        if not progress or time.monotonic() - last < _PERIOD:
            return
        last = time.monotonic()
        before = found
        try:
            found = _status.status(folder, before)
        except (_study.StudyError, OSError):  # not begun, or away for a while
            return
        if before is None or found["done"] != before["done"]:
            best = _live.best(_read.read(folder))
        words = str((found["plan"] or {}).get("words", ""))
        kind = re.sub(r"[0-9.]+", "#", words)  # every worker makes its own plan
        if words and kind not in said:
            said.add(kind)
            view.say(words)
        now = snapshot(found)
        view.show(now._replace(trials=max(now.trials, trials or 0), best=best))

    with _live.live(progress) as view:
        yield look


def snapshot(status: Mapping[str, Any]) -> _live.Snapshot:
    """What the table shows of a study, of its `hw.sweeps.status`."""
    doing = [
        says | {"worker": worker["worker"]}
        for worker in status["workers"]
        if _works(worker)
        for says in worker.get("says", {}).values()
    ]
    rate = sum(says.get("rate") or 0.0 for says in doing)
    number = len({says["worker"] for says in doing})
    return _live.Snapshot(
        trials=status["trials"],
        done=status["done"],
        running=sum(says.get("trials") or 0 for says in doing),
        frozen=len(status["frozen"]),
        rate=rate or None,
        left=_left(status, doing, rate),
        memory=sum(says.get("memory") or 0 for says in doing) or None,
        doing=f"{number} worker{'s' if number > 1 else ''}" if number else None,
    )


def _over(worker: Mapping[str, Any]) -> bool:
    """Whether a worker has ended: such come last, as an engine makes many of them."""
    return worker["end"] is not None or worker["alive"] is False


def _works(worker: Mapping[str, Any]) -> bool:
    """Whether a worker counts as one that works: not ended, not gone."""
    if _over(worker):
        return False
    return bool(worker["alive"]) or worker["heard"] is not None


def _left(status: Mapping[str, Any], doing: list[dict], rate: float) -> float | None:
    """Seconds to the end at this rate: the steps that no trial has made yet."""
    steps = max((says.get("steps") or 0 for says in doing), default=0)
    if not steps or not rate:
        return max((says["left"] for says in doing if says.get("left")), default=None)
    waiting = sum(len(c["keys"]) - c["done"] for c in status["cohorts"])
    made = sum((says.get("step") or 0) * (says.get("trials") or 0) for says in doing)
    return max(waiting * steps - made, 0) / rate


def describe(status: Mapping[str, Any]) -> str:
    """How a study stands, as text for people.

    Args:
        status: of `hw.sweeps.status`; of a second look it knows which workers live.

    Returns:
        Lines: the study, its workers, the cohorts that are not done, what broke.

    Raises:
        ValueError: it lacks what such a status has.

    Example:
        >>> nothing = {"trials": 2, "done": 2, "broken": 0, "text": None}
        >>> lists = ("workers", "cohorts", "frozen", "unread")
        >>> print(hw.sweeps.describe(nothing | {name: [] for name in lists}))
        2 of 2 trials are done
    """
    _checks.mapping("status", status)
    if missing := {"trials", "done", "broken", *_LISTS} - status.keys():
        raise ValueError(
            f"status: expected that of hw.sweeps.status, got none of {sorted(missing)}"
        )
    now = snapshot(status)
    broken = status["broken"]
    head = f"{status['done']} of {status['trials']} trials are done"
    head += f", {broken} of them without a result" if broken else ""
    lines = [head]
    if status["done"] < status["trials"]:
        table = dict(_live.rows(now))
        known = [n for n in ("speed", "time left", "memory") if n in table]
        lines += [", ".join(f"{name} {table[name]}" for name in known)] if known else []
    if plan := status.get("plan"):
        lines += str(plan.get("words", "")).splitlines()
    sections = {
        "workers": [_worker(one) for one in sorted(status["workers"], key=_over)],
        "cohorts that are not done": [
            _cohort(one) for one in status["cohorts"] if one["state"] != "done"
        ],
        "frozen": [_frozen(one) for one in status["frozen"]],
        "cannot be read": list(map(str, status["unread"])),
    }
    for title, texts in sections.items():
        if texts:
            more = [f"  and {len(texts) - _SHOWN} more"] * (len(texts) > _SHOWN)
            lines += [f"{title}:", *(f"  {text}" for text in texts[:_SHOWN]), *more]
    return "\n".join(lines)


def _worker(worker: Mapping[str, Any]) -> str:
    quiet, end = worker["heard"], worker["end"]
    if end is not None:
        why = f" ({end['why']})" if end.get("why") else ""
        heard = f"ended with {end.get('code')}{why}"
    elif worker["alive"] is False:
        heard = "gone without a word (killed): others take over what it had"
    elif quiet is not None:
        heard = f"heard {quiet:.0f} s ago"
    elif worker["alive"]:
        heard = "there, not heard since this look began"
    else:
        heard = "not heard since this look began"
    doing = [_says(name, says) for name, says in worker.get("says", {}).items()]
    where = f"{worker.get('host')}, process {worker.get('pid')}"
    if engine := worker.get("engine"):
        where = f"{_engine.words(engine)}, {where}"
    told = "; ".join(doing) if end is None else ""
    return f"{worker['worker']} ({where}): {heard}{', ' if told else ''}{told}"


def _says(name: str, says: Mapping[str, Any]) -> str:
    number = says.get("cohort", int(name.partition(".")[0] or 0))
    text = f"{says.get('word')} cohort {number}"
    if says.get("steps"):
        text += f", step {says.get('step')} of {says['steps']}"
    return text + (f", {says['trials']} trials" if says.get("trials") else "")


def _cohort(cohort: Mapping[str, Any]) -> str:
    who = {
        "open": "nobody's yet",
        "left": f"left by {cohort.get('worker')}, free",
        "claimed": f"claimed by {cohort.get('worker')}",
    }
    text = f"{cohort['number']}: {len(cohort['keys'])} trials, {cohort['done']} done"
    mode = f", {cohort['mode']}" if cohort.get("mode") else ""
    epoch = cohort.get("epoch") or 0
    again = f", taken over {epoch} times" if epoch > 0 else ""
    return f"{text}{mode}, {who.get(cohort['state'], cohort['state'])}{again}"


def _frozen(trial: Mapping[str, Any]) -> str:
    weights = trial.get("weights") or {}
    named = [f"{name}={weight:g}" for name, weight in weights.items()]
    named += [f"seed={trial['seed']}"] if trial.get("seed") is not None else []
    step = trial.get("stopped", trial.get("step"))
    parts = [f"{trial['trial']} {' '.join(named)}".strip()]
    parts += [f"step {step}"] if step is not None else []
    parts += [f"head {trial['head']}"] if trial.get("head") else []
    parts += [str(trial["error"])] if trial.get("error") else []
    return ": ".join(parts)
