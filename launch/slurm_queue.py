"""SLURM's commands: submits scripts, counts workers, reads how they ended.

`launches/TOKEN.ID` is empty and says that job ID is of the launch TOKEN: the launcher
makes it, and the script itself where it is submitted by hand. Nothing here needs sacct.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.harness import signals
from experiments.harness.text import UsageError
from launch import launches
from launch import slurm_script

PATIENCE = 5.0
"""Seconds until a log that a node wrote is seen here."""
_SAID = re.compile(r"slurm (\S+), start \d+: ")
_CODE = re.compile(_SAID.pattern + r"exit code (\d+)$")


class End(NamedTuple):
    """How an element of an array ended, by its log."""

    name: str
    code: int
    why: str
    """The last line of its worker."""


def need(name: str) -> None:
    """A UsageError unless there is such a command."""
    if shutil.which(name) is None:
        raise UsageError(
            f"{name}: there is no such command here: launch.slurm starts workers from "
            "a host that submits to SLURM (--dry_run shows the script anywhere; "
            "launch.local runs the study on this machine)"
        )


def submit(command: Sequence[str]) -> str:
    """Runs `sbatch --parsable SCRIPT`; the id of the job.

    Raises:
        UsageError: SLURM refuses it; its words.
    """
    done = _run(command)
    return _id(done.stdout, done.stderr)


def keep(folder: pathlib.Path, token: str, job: str) -> None:
    """Keeps that a job is of a launch."""
    (folder / launches.FOLDER / f"{token}.{job}").touch()


def jobs(folder: pathlib.Path) -> list[str]:
    """The ids of all jobs that work, or worked, on a study."""
    paths = (folder / launches.FOLDER).glob("*.*")
    ids = {path.name.partition(".")[2] for path in paths}
    return sorted((one for one in ids if one.isdecimal()), key=int)


def count(ids: Sequence[str]) -> int | None:
    """How many elements of jobs SLURM still knows; None if it cannot be asked."""
    if not ids:
        return 0
    ask = ["squeue", "--noheader", "--array", "--format=%F", f"--jobs={','.join(ids)}"]
    try:
        done = _run(ask)
    except UsageError:
        return None
    if done.returncode:  # of a single job that is over it says so
        return 0 if "Invalid job id" in done.stderr else None
    return sum(line.strip() in ids for line in done.stdout.splitlines())


def cancel(job: str) -> None:
    """Ends a job, if it can be."""
    with contextlib.suppress(UsageError):
        _run(["scancel", job])


def check(command: Sequence[str], folder: pathlib.Path) -> dict[str, Any]:
    """Runs `sbatch --parsable --wait PROBE`; what the probe said of where it ran.

    Raises:
        UsageError: SLURM refuses it, or a worker could not work there.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=_env(), stdout=pipe, stderr=pipe, text=True
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        job = first.partition(";")[0].strip()
        try:
            if job:
                print(f"job {job} looks whether workers can work there", flush=True)
            _, errors = child.communicate()
        except BaseException:
            child.kill()
            cancel(job)
            raise
    job = _id(first, errors)
    lines = _lines(folder / slurm_script.LOGS / f"slurm-check-{job}.txt")
    if child.returncode == 0:
        with contextlib.suppress(ValueError):
            return dict(json.loads(lines[-1] if lines else ""))
    if not lines:
        raise UsageError(
            f"--check: job {job} ended with {child.returncode} and left no log in "
            f"{folder / slurm_script.LOGS}: do the nodes see this folder?"
        )
    raise UsageError(f"--check: job {job}: {lines[-1].removeprefix('error: ')}")


def ends(folder: pathlib.Path, ids: Iterable[str]) -> list[End]:
    """How the elements of jobs ended, as far as their logs tell."""
    found = []
    for job in ids:
        for path in sorted((folder / slurm_script.LOGS).glob(f"slurm-{job}_*.txt")):
            lines = path.read_text(errors="replace").strip().splitlines()
            match = _CODE.fullmatch(lines[-1]) if lines else None
            code = int(match[2]) if match else signals.CODE
            said = [line for line in lines if not _SAID.match(line)] or [str(path)]
            found.append(End(path.stem.removeprefix("slurm-"), code, said[-1]))
    return found


def worst(found: Sequence[End]) -> int:
    """Which of several ends is told: wrong usage, another failure, an interrupt.

    Example:
        >>> worst([End("7_0", 0, ""), End("7_1", 137, "")]), worst([])
        (75, 75)
    """
    kills = (end.code == signals.CODE or end.code > 128 for end in found)
    codes = [
        signals.CODE if kill else end.code
        for kill, end in zip(kills, found, strict=True)
    ]
    rank = {0: 0, signals.CODE: 1, 2: 3}
    return max(codes, key=lambda code: rank.get(code, 2), default=signals.CODE)


def tell(found: Sequence[End]) -> list[str]:
    """How elements ended that did not end well, in words; the same ones together.

    Example:
        >>> tell([End("7_0", 0, "fine"), End("7_1", 2, "no"), End("7_2", 2, "no")])
        ['worker 7_1 and 1 more: no']
    """
    reasons: dict[str, list[str]] = {}
    for end in found:
        if end.code:
            reasons.setdefault(end.why, []).append(end.name)
    lines = []
    for why, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"worker {names[0]}{more}: {why}")
    return lines


def _id(out: str, errors: str) -> str:
    """The id that `sbatch --parsable` printed; its words if it did not."""
    for line in reversed(out.splitlines()):
        if match := re.fullmatch(r"(\d+)(;.*)?", line.strip()):
            return match[1]
    said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in
            (errors or out).splitlines()]  # fmt: skip
    raise UsageError(f"sbatch: {'; '.join(filter(None, said)) or 'said nothing'}")


def _lines(path: pathlib.Path) -> list[str]:
    """The lines of a file that another host wrote just now."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if lines := path.read_text(errors="replace").strip().splitlines():
                return lines
        time.sleep(0.2)
    return []


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    need(command[0])
    return subprocess.run(
        command, env=_env(), capture_output=True, text=True, check=False
    )


def _env() -> dict[str, str]:
    """The environment, without what a new job would take for its own."""
    other = ("SLURM_RESTART_COUNT", "SLURM_MEM_PER_", "SLURM_ARRAY_")
    return {n: x for n, x in os.environ.items() if not n.startswith(other)}
