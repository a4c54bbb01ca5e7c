"""Whether starts of a SLURM job have led to anything, by the store of its study.

    python -m launch.slurm_progress --folder=STUDY --job=12_3 --start=4 --fruitless=3

The batch script asks before a worker starts for so many times. A start was of use if
its worker committed a trial, or saved a later step of a cohort than was there. Exit
codes: 0 go on; 75 the last starts led to nothing (one line).
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.harness import command
from experiments.harness import signals
from experiments.harness import text
from experiments.harness.text import UsageError


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    words = {"folder": "of the study", "job": "12_3, or 12: no array"}
    command.define(values, str, words)
    start = "the start that is about to be, from 0 on: SLURM_RESTART_COUNT"
    command.define(values, int, {"start": start})
    most = "starts in a row that may lead to nothing"
    command.define(values, int, {"fruitless": most}, 3)


def main(argv: Sequence[str]) -> int:
    """Looks into the folder; says why not, if not."""
    given = command.parse(argv, define, __doc__)
    if given.folder is None or given.job is None:
        raise UsageError("expected --folder, --job and --start")
    folder = text.folder("--folder", given.folder)
    start = text.whole("--start", given.start, 0) or 0
    row = fruitless(list(runs(folder)), saved(folder), given.job, start)
    if row < given.fruitless:
        return 0
    starts = "start" if row == 1 else f"{row} starts"
    print(
        f"the last {starts} of job {given.job} got no trial further: it is given up"
        " (its log says how they ended; launch.slurm --top_up, or sbatch, tries again)",
        file=sys.stderr,
    )
    return signals.CODE


def fruitless(
    runs: Sequence[Sequence[Mapping[str, Any]]],
    saved: Mapping[tuple[int, int], int],
    job: str,
    start: int,
) -> int:
    """How many starts of a job before this one, the last in a row, led to nothing.

    Args:
        runs: the events of each worker of the study.
        saved: {(cohort, epoch): the last step that is saved of it}.
        job: as the batch script calls it.
        start: the number of this one, from 0 on.

    Example:
        >>> where = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
        >>> run = [{"kind": "start", "engine": where}, {"kind": "done"}]
        >>> fruitless([run], {}, "7", 4)
        2
    """
    last = -1
    for events in runs:
        engines = [event.get("engine") or {} for event in events]
        found = next((e for e in engines if _job(e) == job), None)
        if found is not None and _of_use(events, saved):
            last = max(last, int(found.get("SLURM_RESTART_COUNT") or 0))
    return start - 1 - last


def _job(engine: Mapping[str, str]) -> str | None:
    """What the batch script calls the job of a worker."""
    array, task = (engine.get(f"SLURM_ARRAY_{n}_ID") for n in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else engine.get("SLURM_JOB_ID")


def _of_use(
    events: Sequence[Mapping[str, Any]], saved: Mapping[tuple[int, int], int]
) -> bool:
    """Whether a worker got a trial further."""
    for event in events:
        if event["kind"] == "done":
            return True
        if event["kind"] == "claim":
            cohort, epoch = event["cohort"], event["epoch"]
            before = [s for (c, e), s in saved.items() if c == cohort and e < epoch]
            if saved.get((cohort, epoch), 0) > max(before, default=0):
                return True
    return False


def runs(folder: pathlib.Path) -> Iterator[list[dict[str, Any]]]:
    """The events of each worker of a study; lines that are torn are passed over."""
    for path in sorted(folder.glob("events/*.jsonl")):
        events = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event:
                events.append(event)
        yield events


def saved(folder: pathlib.Path) -> dict[tuple[int, int], int]:
    """{(cohort, epoch): the last step of it that has a checkpoint}."""
    found: dict[tuple[int, int], int] = {}
    for path in folder.glob("ckpt/*.*/*"):
        cohort, _, epoch = path.parent.name.partition(".")
        if path.name.isdecimal() and cohort.isdecimal() and epoch.isdecimal():
            place = int(cohort), int(epoch)
            found[place] = max(found.get(place, 0), int(path.name))
    return found


if __name__ == "__main__":
    command.run(main)
