"""How a study stands, from anywhere that sees its folder. It reads, and writes nothing.

    python -m launch.status studies/digits_launched
    python -m launch.status studies/digits_launched --watch

Who works on what and by what name SLURM, Ray or Kubernetes know it, since when each
worker was heard (by two looks, on this clock alone), which trials froze and why, how
long it takes, and who launched the study, when and how. Exit codes: 0 all trials are
done, 1 all are done but some have no result, 2 no study there, 75 trials are left.
"""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import signals
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import launches

PAUSE = 0.5
"""Seconds between two looks."""
SHOWN = 8
"""Launches at most."""


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    command.define(values, str, {"folder": "of the study"})
    command.define(values, bool, {"watch": "until all is done"})
    wait = "seconds to listen for workers that are not known to have ended"
    flags.DEFINE_float("wait", 8.0, wait, 0.0, flag_values=values)


def main(argv: Sequence[str]) -> int:
    """Looks until every worker was heard, or for long enough; prints what it saw."""
    words = list(argv)
    if len(words) > 1 and not words[1].startswith("-"):
        words[1] = f"--folder={words[1]}"
    given = command.parse(words, define, __doc__)
    if given.folder is None:
        raise UsageError(
            "expected the folder of a study: python -m launch.status STUDY"
        )
    folder = text.folder("--folder", given.folder)
    status: dict[str, Any] | None = None
    start = time.monotonic()
    while True:
        status = _look(folder, status)
        over = status is not None and status["done"] >= status["trials"] > 0
        enough = time.monotonic() - start >= given.wait
        may_come = status is not None and any(map(_may_come, status["workers"]))
        if over or not (given.watch or (may_come and not enough)):
            break
        if given.watch and sys.stdout.isatty():
            print(f"\033[H\033[2J{_words(status)}", flush=True)
        time.sleep(PAUSE)
    print("\n".join([_words(status), *_launches(folder)]))
    if status is None or not over:
        return signals.CODE
    return 1 if status["broken"] else 0


def _look(folder: pathlib.Path, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """How a study stands; None if it was launched and no worker has begun."""
    try:
        return hw.sweeps.status(folder, before)
    except hw.sweeps.StudyError:
        if launches.read(folder) and not (folder / "study.json").exists():
            return None
        raise


def _words(status: dict[str, Any] | None) -> str:
    return "no worker has begun" if status is None else hw.sweeps.describe(status)


def _launches(folder: pathlib.Path) -> list[str]:
    """Who launched the study, a line each; the newest at the end."""
    found = launches.read(folder)
    lines = [
        f"  {one.get('time')} {one.get('user')} on {one.get('host')}: "
        f"{one.get('engine')}, {one.get('command')}"
        for one in found[-SHOWN:]
    ]
    more = [f"  {len(found) - SHOWN} before"] * (len(found) > SHOWN)
    return ["launched:", *more, *lines] if found else []


def _may_come(worker: dict[str, Any]) -> bool:
    """Whether a worker that was not heard yet may still be."""
    gone = worker["end"] is not None or worker["alive"] is False
    return not gone and worker["heard"] is None


if __name__ == "__main__":
    command.run(main)
