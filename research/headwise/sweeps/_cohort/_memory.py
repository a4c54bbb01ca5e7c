"""How many trials fit into memory as one program: asked of the compiler, never tried.

Compiling takes no memory of the device, so that sizes are compared before one runs.
"""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from headwise import _xla

MARGIN = 0.1
"""The part of free memory that is left: for the pieces that memory breaks into, and
for what other programs take in the meantime."""

_PROC = pathlib.Path("/proc")
_CGROUP = pathlib.Path("/sys/fs/cgroup")


UNTOLD = 1.25
"""What is held on a CPU between operations, in units of what its compiler tells of. It
leaves out what library calls hold: of steps that were measured (MLPs and convolutions,
vmapped and scanned) 0 to 21 %."""


def used(compiled: Any) -> int:
    """Bytes that a compiled program holds while it runs, arguments and results too.

    Arguments that are given for good hold results: they count once. The compiler's own
    sum, the peak, is not used: on CPU it leaves out what loops hold.

    Args:
        compiled: of `jax.jit(f).lower(...).compile()`.
    """
    sizes = compiled.memory_analysis()
    if sizes is None:
        return 0
    ends = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    between = sizes.temp_size_in_bytes * (UNTOLD if _xla.on_cpu() else 1)
    return int(ends - sizes.alias_size_in_bytes + between)


_MADE_OF = {"start": "init", "advance": "step", "finish": "evaluate"}
"""{program of a cohort: the function of a trial that is in it}."""


def needed(cohort: Any) -> float:
    """Bytes of a cohort of `_modes` while it runs, compiled but not run.

    What the trials close over (data) is in memory already, and not counted. inf where
    the compiler itself says that there is not enough.
    """
    try:
        programs = cohort.compiled()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    arrays = cohort.parts.arrays
    running = max(
        used(program) - nbytes(arrays.get(_MADE_OF.get(name, name), []))
        for name, program in programs.items()
    )
    if cohort.mode == "vmap":
        return running
    if cohort.mode == "shard":  # told of one device; those of a CPU have one memory
        devices = jax.tree.leaves(programs["advance"].output_shardings)[0].device_set
        return running * (len(devices) if _xla.on_cpu() else 1)
    return cohort.places * nbytes(cohort.parts.state) + cohort.at_once * running


def nbytes(tree: Any) -> int:
    """Of all arrays, or arrays to be."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def free(device: Any = None) -> int | None:
    """Bytes that trials may take: of a device, or of this machine if it is a CPU.

    Args:
        device: one of `jax.devices()`; None: the first.

    Returns:
        What is free less a margin; None if nobody knows.
    """
    device = jax.devices()[0] if device is None else device
    left = _of_host() if device.platform == "cpu" else _of_device(device)
    return None if left is None else int(left * (1 - MARGIN))


def _of_device(device: Any) -> int | None:
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def _of_host() -> int | None:
    """The least of what the machine has and what its containers allow."""
    known = [x for x in (_of_machine(), _of_container()) if x is not None]
    return min(known, default=None)


def _of_machine() -> int | None:
    try:
        lines = (_PROC / "meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _of_pages()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    if "MemAvailable" not in fields:
        return _of_pages()
    return 1024 * int(fields["MemAvailable"].split()[0])


def _of_pages() -> int | None:
    """Half of the memory there is, where no one says how much of it is free."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # no such call on this system
        return None


def _of_container() -> int | None:
    """What is left to the control groups of this process; None where none is limited.

    Files that were read count as used there, but go when memory is short.
    """
    try:
        lines = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, kind, path = line.split(":", 2)
        if kind == "":
            top = _CGROUP
            names = "memory.max", "memory.current", "inactive_file"
        elif "memory" in kind.split(","):
            most, now = "memory.limit_in_bytes", "memory.usage_in_bytes"
            names, top = (most, now, "total_inactive_file"), _CGROUP / "memory"
        else:
            continue
        place = top / path.strip("/")
        # In a container the path may be that of the host; then its own is the top.
        for folder in {place, *place.parents} if place.exists() else {top}:
            if folder == top or top in folder.parents:
                left += _of_group(folder, *names)
    return min(left, default=None)


def _of_group(folder: pathlib.Path, most: str, now: str, files: str) -> list[int]:
    try:
        limit, taken = (
            (folder / name).read_text(encoding="utf-8") for name in (most, now)
        )
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        kept = next((int(x.split()[1]) for x in lines if x.split()[0] == files), 0)
        return [max(0, int(limit) - int(taken) + kept)]
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return []


def largest(
    need: Callable[[int], float], most: int, limit: int | None, *, even: bool = False
) -> int:
    """The largest number of trials that fits; 0: not even one.

    Sizes are measured, few of them: first all, then where a straight line through what
    is known meets the limit, in turn with halves.

    Args:
        need: bytes of a size, inf if nobody can tell; more trials do not take less.
        most: how many there are.
        limit: None: there is none.
        even: the largest size of equal pieces of all of them, which needs fewer
            looks: it is found when no other number of pieces is possible.

    Example:
        >>> from headwise.sweeps._cohort import _memory
        >>> def need(size):
        ...     return 100 + 10 * size
        >>> _memory.largest(need, 100, limit=500)
        40
        >>> _memory.largest(need, 100, limit=500, even=True)  # 34 + 34 + 32
        34
    """
    if limit is None:
        return most
    known = {most: need(most)}
    if known[most] <= limit:
        return most
    fits, exceeds, turn = 0, most, 0
    while exceeds - fits > 1 and not (
        even and fits and pieces(most, fits) == pieces(most, exceeds - 1)
    ):
        half = (fits + exceeds) // 2
        guess = _guess(known, limit, half) if turn % 2 == 0 else half
        size = min(max(guess, fits + 1), exceeds - 1)
        known[size] = need(size)
        fits, exceeds = (size, exceeds) if known[size] <= limit else (fits, size)
        turn += 1
    return -(-most // pieces(most, fits)) if even and fits else fits


def pieces(trials: int, size: int) -> int:
    """How many pieces of at most so many trials.

    Example:
        >>> from headwise.sweeps._cohort import _memory
        >>> _memory.pieces(100, 34)
        3
    """
    return -(-trials // size)


def _guess(known: dict[int, float], limit: int, otherwise: int) -> int:
    """Where the line through the two sizes that are nearest to the limit meets it."""
    told = {size: nbytes for size, nbytes in known.items() if math.isfinite(nbytes)}
    if not told:
        return otherwise
    nearest = sorted(told, key=lambda size: abs(told[size] - limit))[:2]
    low, high = min(nearest), max(nearest)
    low, base = (0, 0.0) if low == high else (low, told[low])
    slope = (told[high] - base) / (high - low)
    return int(low + (limit - base) / slope) if slope > 0 else otherwise
