"""Processes as they are told from all others, and whether one is gone for certain."""

import contextlib
import os
import pathlib
import platform
import secrets
from collections.abc import Mapping
from typing import Any

_PROC = pathlib.Path("/proc")


def me() -> dict[str, Any]:
    """What tells this process from all others; plain JSON.

    Returns:
        {"host", "boot", "space", "pid", "started"}: the machine's name, which start of
        it, where its numbers of processes count (a container has its own), the number,
        and when the process with that number was started. None what cannot be told.
    """
    return {
        "host": platform.node(),
        "boot": _text(_PROC / "sys/kernel/random/boot_id"),
        "space": _link(_PROC / "self/ns/pid"),
        "pid": os.getpid(),
        "started": _state(os.getpid())[1],
    }


def name() -> str:
    """A name for this process as a worker, new at each call."""
    host = "".join(c if c.isalnum() else "-" for c in platform.node())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process, as `me` told it, has ended for certain."""
    return is_alive(process) is False


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process, as `me` told it, is there.

    None if it is of another machine, start of the machine or container: nobody here
    can know then.
    """
    here, pid = me(), process.get("pid")
    known = ("host", "boot", "space")
    if any(here[n] is None or process.get(n) != here[n] for n in known):
        return None
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    state, started = _state(pid)
    if state is None:
        return None
    return state not in "ZX" and started == process.get("started")


def _state(pid: int) -> tuple[str | None, str | None]:
    """What a process does, and when it was started, in ticks; None if not known."""
    text = _text(_PROC / str(pid) / "stat")
    if text is None:
        return None, None
    # Its name stands in parentheses and may hold anything: what follows is in columns.
    state, *rest = text.rpartition(")")[2].split()
    return state, rest[18]


def _text(path: pathlib.Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return None


def _link(path: pathlib.Path) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return None
