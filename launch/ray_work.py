"""Gives out tasks of Ray until no trial of a study is left, or they lead to nothing."""

import pathlib
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import headwise as hw
from experiments.harness import signals
from launch import ray_cluster as cluster
from launch.launches import Launch

TRIES = 3
"""How often in a row a worker may end without any progress of the study."""
PAUSE = 5.0
"""Seconds before it is tried the third time; the second time is at once."""


class Try(NamedTuple):
    """A worker that is to be started."""

    number: int
    fruitless: int = 0
    """How many tasks of it in a row, to the last, led to nothing."""
    at: float = 0.0
    before: Mapping[str, int] = {}
    """How far the study was when the task was given out."""


def further(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether a study came further, by two looks of `saved`.

    Example:
        >>> further({"done": 1, "000002": 30}, {"done": 1, "000002": 30})
        False
        >>> further({"done": 1, "000002": 30}, {"done": 2})
        True
    """
    return any(now[name] > before.get(name, 0) for name in now)


def saved(folder: pathlib.Path) -> dict[str, int]:
    """How many trials are done; the last step of each cohort that has a checkpoint."""
    found = {"done": len(list(folder.glob("done/*.json")))}
    for path in folder.glob("ckpt/*.*/*"):
        if path.name.isdecimal():
            cohort = path.parent.name.partition(".")[0]
            found[cohort] = max(found.get(cohort, 0), int(path.name))
    return found


def work(launch: Launch, workers: int, submit: Callable[[int], Any]) -> int:
    """Gives out tasks until no trial is left; the code that tells how it ended.

    Args:
        launch: whose trials.
        workers: how many tasks there are at a time.
        submit: gives out one, of this number; its reference.
    """
    plan, flying, last, done = launch.plan, dict[Any, Try](), 0, False
    folder, waiting = plan.study.folder, [Try(number) for number in range(workers)]
    try:
        with hw.sweeps.watch(folder, trials=len(plan.trials)) as look:
            while flying or waiting:
                look()
                now = time.monotonic()
                for one in [one for one in waiting if one.at <= now]:
                    waiting.remove(one)
                    flying[submit(one.number)] = one._replace(before=saved(folder))
                time.sleep(cluster.PERIOD)
                for ref in cluster.wait(list(flying)):
                    one, ended = flying.pop(ref), cluster.end(ref)
                    if ended.code not in (0, signals.CODE):
                        on = f" on {ended.host}" if ended.host else ""
                        line = f"worker {one.number}{on}: {ended.line}"
                        print(line, file=sys.stderr)
                    done = done or ended.code == 0
                    if done:  # the others see it, too
                        waiting, last = [], 0
                        continue
                    if ended.code in (2, 1 if plan.study.stop_on_failure else 2):
                        return ended.code
                    moved = further(one.before, saved(folder))
                    row = 0 if moved else one.fruitless + 1
                    last = ended.code
                    if row < TRIES:
                        at = time.monotonic() + PAUSE * max(row - 1, 0)
                        waiting.append(Try(one.number, row, at))
    finally:
        cluster.cancel(list(flying))
    return last
