"""What a worker asks SLURM for: the launcher's flags as options of sbatch. Pure."""

import re
import shlex
from collections.abc import Mapping
from collections.abc import Sequence

from experiments.harness.text import UsageError

# What the script says itself, and why nobody else may.
OWN = {
    "array": "--workers and --at_once say it",
    "nodes": "a worker is one task on one node, --workers says how many there are",
    "ntasks": "a worker is one task on one node, --workers says how many there are",
    "requeue": "workers go on until all is done, --max_fruitless says when not",
    "no-requeue": "workers go on until all is done, --max_fruitless says when not",
    "open-mode": "a worker that starts again goes on with its log",
    "output": "logs are in the study's folder",
    "signal": "--notice says it",
    "wrap": "there is a script",
    "wait": "--wait of this launcher does",
    "test-only": "--check of this launcher does",
    "parsable": "this launcher reads it",
}

CONTAINERS = re.compile(
    r"apptainer|singularity|docker|podman|enroot|shifter|ch-run|--container"
)
"""What a prefix has that runs its command in another system of files."""


def read(
    named: Mapping[str, str | int | None], more: Sequence[str]
) -> tuple[tuple[str, str | None], ...]:
    """The options of sbatch that flags ask for, and their values.

    Args:
        named: {option: value} of flags of their own; None: not given.
        more: others, as `constraint=a100,exclusive`; a value that holds a comma is
            quoted, as `exclude="n1,n2"`.

    Raises:
        UsageError: an option that the launcher sets itself, or one twice.

    Example:
        >>> read({"partition": "gpu", "qos": None}, ['exclude="n1,n2",exclusive'])
        (('partition', 'gpu'), ('exclude', 'n1,n2'), ('exclusive', None))
    """
    found: dict[str, str | None] = {
        name: str(value) for name, value in named.items() if value is not None
    }
    for word in (word for text in more for word in _words(text)):
        name, equals, value = word.removeprefix("--").partition("=")
        if re.fullmatch(r"[a-z][a-z-]*", name) is None:
            raise UsageError(
                "--sbatch: expected long options of sbatch without their dashes, as "
                f"constraint=a100,exclusive; got {word!r} (a value that holds a comma "
                "is quoted)"
            )
        if name in OWN:
            raise UsageError(f"--sbatch: {name} is the launcher's own: {OWN[name]}")
        if name in found:
            raise UsageError(f"--sbatch: {name} is given twice: {word}")
        found[name] = value if equals else None
    return tuple(found.items())


def _words(text: str) -> list[str]:
    """The texts between commas that are not in quotes."""
    parts = shlex.shlex(text, posix=True, punctuation_chars=False)
    parts.whitespace, parts.whitespace_split, parts.commenters = ",", True, ""
    try:
        return list(parts)
    except ValueError as error:
        raise UsageError(f"--sbatch: {text}: {error}") from None


def devices(gpus: str | None) -> int | None:
    """How many GPUs a worker finds where so many are asked for, as `2` or `a100:2`.

    Raises:
        UsageError: no number of them.

    Example:
        >>> devices("a100:2"), devices("1"), devices(None)
        (2, 1, None)
    """
    if gpus is None:
        return None
    count = gpus.rpartition(":")[2]
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"--gpus: expected a number as 1, or a100:1; got {gpus!r}")
    return int(count)


def python(prefix: str | None, here: str) -> str:
    """What the workers' interpreter is called: in a container it is not this one.

    Args:
        prefix: of the command.
        here: this interpreter.

    Example:
        >>> python("srun --cpu-bind=none", "/env/bin/python")
        '/env/bin/python'
        >>> python("apptainer exec --nv image.sif", "/env/bin/python")
        'python'
    """
    return "python" if CONTAINERS.search(prefix or "") else here


def seconds(time: str | None) -> int | None:
    """A time limit as SLURM reads it; None where it has none, or it is no such text.

    Example:
        >>> [seconds(t) for t in ("90", "1:30", "2:0:0", "1-12", "1-0:30", "UNLIMITED")]
        [5400, 90, 7200, 129600, 88200, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time or "")
    if match is None:
        return None
    days, first, *rest = (
        None if part is None else int(part) for part in match.groups()
    )
    parts = [part for part in rest if part is not None]
    units = [60, 1] if days is None and len(parts) < 2 else [3600, 60, 1]
    numbers = [first or 0, *parts]
    total = sum(n * unit for n, unit in zip(numbers, units, strict=False))
    return (days or 0) * 86400 + total
