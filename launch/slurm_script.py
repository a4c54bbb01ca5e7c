"""The batch script of a job array whose elements are workers, as text. Pure.

It says all that `sbatch` needs, so that plain `sbatch SCRIPT` submits it again. What
differs between launches stands in its head; `BODY` is the same for all of them.
"""

import pathlib
import re
import shlex
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

from experiments.harness.text import UsageError

LOGS = "logs"
_PLAIN = re.compile(r"[\w@%+=:,./-]*", re.ASCII)


class Job(NamedTuple):
    """What SLURM is asked for, and how a worker begins where it runs."""

    workers: int
    at_once: int | None
    """The most that run at the same time; None: as many as SLURM lets."""
    notice: int
    """Seconds before the end of its time at which a worker is told to save."""
    fruitless: int
    """Starts in a row that lead to nothing before an element is given up."""
    asked: tuple[tuple[str, str | None], ...] = ()
    """Options of sbatch and their values; None: it has none."""
    exports: tuple[tuple[str, str], ...] = ()
    """Variables that workers get where their environment does not have them."""
    setup: tuple[str, ...] = ()
    """Lines of the shell before the worker: `module load cuda`."""
    prefix: str = ""
    """What the command begins with, as the shell reads it: `apptainer exec IMAGE`."""
    python: str = "python"


class Place(NamedTuple):
    """Where things are, by names that hold on every node."""

    folder: pathlib.Path
    """Of the study."""
    code: pathlib.Path
    """The checkout: workers start there."""
    path: str
    """What `PYTHONPATH` begins with; "" for nothing."""
    token: str
    """Of the launch."""


BODY = r"""
id=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
id=${id:-$SLURM_JOB_ID}  # of an array's element: that of the array is all of them
again=${SLURM_RESTART_COUNT:-0}
say() { echo "slurm $id, start $((again + 1)): $*"; }
end() { say "exit code $1"; exit "$1"; }

# SLURM warns this shell alone. To be warned twice does a worker no harm, and one that
# is just about to begin may miss the first.
pid= warned= caught=
warn() {
    warned=1 caught=1
    [ -n "$pid" ] || return
    kill -USR1 "$pid" 2>/dev/null
    { sleep 2; kill -USR1 "$pid"; } >/dev/null 2>&1 &
}
trap warn USR1
trap 'sleep 1; warn' TERM  # the worker may have it, too: that shall come first

: 2>/dev/null >"$folder/launches/$launch.${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
cd "$code" || end 2
prepare
if [ "$again" -ge "$fruitless" ]; then
    "${progress[@]}" --job="$id" --start="$again" || end "$?"
fi
code=75
if [ -z "$warned" ]; then
    "${worker[@]}" &
    pid=$!
    [ -z "$warned" ] || warn
    while :; do
        caught=
        wait "$pid"
        code=$?
        [ -n "$caught" ] || break  # else the wait was cut short by a warning
    done
fi

# Again after an interrupt (75) or a kill; all else is an end.
[ "$code" -eq 75 ] || { [ "$code" -gt 128 ] && [ "$code" -lt 193 ]; } || end "$code"
if ! command -v scontrol >/dev/null; then
    say "not requeued, there is no scontrol here: launch.slurm --top_up goes on"
    end "$code"
fi
case $(scontrol show job "$id" 2>&1) in
*JobState=RUNNING*)
    say "worker ended with $code, requeued"
    scontrol requeue "$id" && exit "$code"
    say "not requeued: launch.slurm --top_up goes on"
    ;;
*) say "not requeued: SLURM ends this job" ;;  # cancelled, preempted, out of time
esac
end "$code"
"""


def script(job: Job, place: Place, words: Sequence[str]) -> str:
    """A job array of identical workers, each of which takes what is left.

    Args:
        job: what is asked for.
        place: where the study and the code are.
        words: the flags of `launch.worker`.

    Raises:
        UsageError: a name that cannot stand in such a script.

    Example:
        >>> job = Job(2, None, 60, 3, (("partition", "gpu"),), python="python3")
        >>> place = Place(pathlib.Path("/a b"), pathlib.Path("/code"), "", "TOKEN")
        >>> for line in script(job, place, ["--workers=2"]).splitlines()[:8]:
        ...     print(line)
        #!/bin/bash
        #SBATCH --partition=gpu
        #SBATCH --array=0-1
        #SBATCH --nodes=1
        #SBATCH --ntasks=1
        #SBATCH --requeue
        #SBATCH --open-mode=append
        #SBATCH --signal=B:USR1@60
    """
    most = "" if job.at_once is None else f"%{job.at_once}"
    options = [
        *job.asked,
        ("array", f"0-{job.workers - 1}{most}"),
        ("nodes", "1"),
        ("ntasks", "1"),
        ("requeue", None),
        ("open-mode", "append"),
        ("signal", f"B:USR1@{job.notice}"),
        ("output", log_path(place.folder, "slurm-%A_%a.txt")),
    ]
    progress = ["launch.slurm_progress", f"--folder={place.folder}"]
    lines = [
        *map(directive, options),
        "",
        "# Workers of one study: each takes what is left. Again: sbatch this file.",
        *_head(job, place),
        f"fruitless={job.fruitless}",
        "worker=(",
        f"    {_python(job, ['launch.worker', *words])}",
        ")",
        "progress=(",
        f"    {_python(job, [*progress, f'--fruitless={job.fruitless}'])}",
        ")",
    ]
    return "\n".join(["#!/bin/bash", *lines, BODY.strip(), ""])


def probe(job: Job, place: Place, words: Sequence[str]) -> str:
    """One job that looks whether a worker could work where it runs; trains nothing."""
    options = [
        *job.asked,
        ("nodes", "1"),
        ("ntasks", "1"),
        ("no-requeue", None),
        ("output", log_path(place.folder, "slurm-check-%j.txt")),
    ]
    lines = [
        *map(directive, options),
        "",
        *_head(job, place),
        'cd "$code" || exit 2',
        "prepare",
        _python(job, ["launch.worker", *words, "--check"]),
    ]
    return "\n".join(["#!/bin/bash", *lines, ""])


def _head(job: Job, place: Place) -> list[str]:
    """What differs between launches, as shell variables and one function."""
    exports = [f"export {n}=${{{n}:-{shlex.quote(x)}}}" for n, x in job.exports]
    path = shlex.quote(place.path)
    if place.path:
        exports += [f"export PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}"]
    return [
        f"folder={_line('--folder', shlex.quote(str(place.folder)))}",
        f"code={shlex.quote(str(place.code))}",
        f"launch={place.token}",
        *exports,
        "prepare() {",
        *(f"    {line}" for line in job.setup or (":",)),
        "}",
    ]


def _python(job: Job, words: Iterable[str]) -> str:
    """A module as a command of the shell, within what it runs in."""
    command = shlex.join([job.python, "-m", *words])
    return f"{job.prefix} {command}" if job.prefix else command


def directive(option: tuple[str, str | None]) -> str:
    r"""A line that sbatch reads.

    It knows both kinds of quotes, and a backslash in each of them, other than a shell.

    Example:
        >>> print(directive(("output", 'a "b" $c#.txt')))
        #SBATCH --output="a \"b\" $c#.txt"
        >>> print(directive(("exclusive", None)))
        #SBATCH --exclusive
    """
    name, value = option
    if value is None:
        return f"#SBATCH --{name}"
    if not _PLAIN.fullmatch(value):
        inner = value.replace("\\", "\\\\").replace('"', '\\"')
        value = f'"{inner}"'
    return f"#SBATCH --{name}={_line(f'--{name}', value)}"


def log_path(folder: pathlib.Path, pattern: str) -> str:
    """A pattern of SLURM's in a folder's `logs`, whose own name means nothing to it.

    Raises:
        UsageError: a backslash in it, with which SLURM reads no pattern.

    Example:
        >>> log_path(pathlib.Path("/50%Acc"), "slurm-%A_%a.txt")
        '/50%%Acc/logs/slurm-%A_%a.txt'
    """
    path = str(folder / LOGS)
    if "\\" in path:
        raise UsageError(f"--folder: SLURM takes no backslash in a log's name: {path}")
    return f"{path.replace('%', '%%')}/{pattern}"


def _line(flag: str, text: str) -> str:
    if "\n" in text or "\r" in text:
        raise UsageError(f"{flag}: expected one line, got {text!r}")
    return text
