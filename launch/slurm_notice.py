"""How long before the end of its time a worker is warned: by what a study measured.

It looks at signals between two chunks of steps, and then writes a checkpoint.
"""

import json
import math
import pathlib

import headwise as hw

DEFAULT = 60
"""Seconds, where nothing is known; and at least."""
CHUNK = 1.0
"""Seconds that a chunk takes as a rule; one step at least, if that takes longer."""
SPARE = 30
"""Seconds for all else: files of a shared disk, the end of the process."""


def notice(step: float | None, checkpoint: float | None) -> int:
    """Seconds of warning: twice what was measured, and some to spare.

    Args:
        step: seconds that a step of the slowest cohort took; None: not known.
        checkpoint: seconds that the slowest checkpoint took; None: not known.

    Example:
        >>> notice(None, None), notice(0.01, 0.5), notice(20.0, 40.0)
        (60, 60, 150)
    """
    both = max(CHUNK, step or 0.0) + (checkpoint or 0.0)
    return max(DEFAULT, math.ceil(2 * both) + SPARE)


def told(step: float | None, checkpoint: float | None) -> str:
    """What the warning follows from, in words.

    Example:
        >>> told(20.0, None)
        'a chunk of steps took up to 20 s here'
    """
    if step is None and checkpoint is None:
        return "nothing is measured here yet"
    chunk, save = max(CHUNK, step or 0.0), checkpoint
    saved = "" if save is None else f", a checkpoint {save:.2g} s"
    return f"a chunk of steps took up to {chunk:.2g} s here{saved}"


def measured(folder: pathlib.Path) -> tuple[float | None, float | None]:
    """Seconds that a step, and a checkpoint, took in a study at most; None: not known.

    By the records of cohorts that are done, else what workers say of those that run;
    and the times that checkpoints hold.
    """
    try:
        status = hw.sweeps.status(folder)
    except hw.sweeps.StudyError:
        return None, None
    steps, known = [], {_key(record): record for record in hw.sweeps.read(folder)}
    for cohort in status["cohorts"]:
        records = [known[key] for key in cohort["keys"] if key in known]
        whole = [r for r in records if r["stopped"] is None and r["seconds"]]
        if cohort["state"] == "done":
            steps += [_step(r, len(cohort["keys"])) for r in whole]
    if not steps:  # what they say first holds the time to compile
        told = [
            s for worker in status["workers"] for s in worker.get("says", {}).values()
        ]
        rates = [(says.get("trials"), says.get("rate")) for says in told]
        steps = [trials / rate for trials, rate in rates if trials and rate]
    checkpoints = list(map(_took, folder.glob("ckpt/*/*/_CHECKPOINT_METADATA")))
    saves = [seconds for seconds in checkpoints if seconds is not None]
    return max(steps, default=None), max(saves, default=None)


def _step(record: hw.sweeps.Record, trials: int) -> float:
    """Seconds that a step of its whole cohort took, of which it has its share."""
    return (record["seconds"] or 0.0) * trials / (record["settings"].get("steps") or 1)


def _key(record: hw.sweeps.Record) -> str:
    trial = hw.sweeps.Trial(record["weights"], record["seed"], record["settings"])
    return trial.key


def _took(path: pathlib.Path) -> float | None:
    """Seconds from a checkpoint's beginning to its end, as it says itself."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return (kept["commit_timestamp_nsecs"] - kept["init_timestamp_nsecs"]) / 1e9
    except (OSError, ValueError, KeyError, TypeError):
        return None
