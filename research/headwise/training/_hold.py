"""One process at a time in a folder: a lock that ends with its process."""

import contextlib
import errno
import os
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

try:
    import fcntl
except ModuleNotFoundError:  # Windows: nothing is held
    fcntl = None  # type: ignore[assignment]


class InUseError(Exception):
    """Someone else holds the folder; the text says who."""


class _Held(NamedTuple):
    file: int
    """A descriptor: closing it lets go."""
    thread: int
    times: int


_HELD: dict[str, _Held] = {}
_CHANGING = threading.RLock()


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Keeps everyone else out of a folder; its thread may hold it several times.

    Raises:
        InUseError: another process or thread holds it.
    """
    if fcntl is None:
        yield
        return
    name, me = os.path.realpath(folder), threading.get_ident()
    with _CHANGING:
        now = _HELD.get(name) or _Held(_locked(os.path.join(name, ".lock")), me, 0)
        if now.thread != me:
            raise InUseError("another thread of this process")
        _HELD[name] = now._replace(times=now.times + 1)
    try:
        yield
    finally:
        with _CHANGING:
            now = _HELD.pop(name, now)
            if now.times > 1:
                _HELD[name] = now._replace(times=now.times - 1)
            elif now.times == 1:
                os.close(now.file)


def _locked(path: str) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return file  # a file system without locks
        holder = os.pread(file, 200, 0).decode(errors="replace").split()
        os.close(file)
        raise InUseError(_words(holder)) from None
    mine = f"{os.getpid()} {socket.gethostname()}\n".encode()
    if os.pread(file, len(mine) + 1, 0) != mine:
        with contextlib.suppress(OSError):  # a full disk: held all the same
            os.ftruncate(file, 0)
            os.pwrite(file, mine, 0)
    return file


def _words(holder: list[str]) -> str:
    if len(holder) != 2:
        return "another process"
    process, host = holder
    return f"process {process}" + f" on {host}" * (host != socket.gethostname())


def _let_go_in_child() -> None:
    """A forked child shares the lock, and would keep it when its parent is dead."""
    for one in _HELD.values():
        with contextlib.suppress(OSError):
            os.close(one.file)
    _HELD.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go_in_child)
