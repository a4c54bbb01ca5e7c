"""One training over several processes, seen from the launcher on one host.

The processes are children (`launch.peer`): the launcher holds no backend, passes on
what they print, has them save and end when it is interrupted, and makes one line of
what JAX says in a page when another process is gone.
"""

import contextlib
import math
import os
import pathlib
import platform
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from experiments.harness import signals
from launch import peer
from launch import plan as places
from launch import processes
from launch.peer import Join

PATIENCE = 10.0
"""Seconds that the others of this host have once one has failed."""
THREADS = "8"
"""Several devices on a CPU wait for each other for ever in a smaller pool of XLA's."""
_NOISE = re.compile(r"\[Gloo\] Rank|[IWE]\d{4} \d\d:")
_PAGE = re.compile(r"F\d{4} \d\d:")


def local(count: int, timeout: int) -> list[Join]:
    """Processes on this machine, which meet at a port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{one.getsockname()[1]}"
    return [Join(where, count, i, timeout) for i in range(count)]


def environment(env: Mapping[str, str], place: Mapping[str, str]) -> dict[str, str]:
    """What the environment of a process has beside that of its launcher.

    Args:
        env: of the launcher.
        place: what the process runs on.

    Example:
        >>> two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        >>> environment({"TF_CPP_MIN_LOG_LEVEL": "0"}, two)["NPROC"]
        '8'
    """
    changed = dict(place) | {"PYTHONUNBUFFERED": "1"}
    if "TF_CPP_MIN_LOG_LEVEL" not in env:
        changed["TF_CPP_MIN_LOG_LEVEL"] = "3"
    several = places.CPU_DEVICES in (dict(env) | changed).get("XLA_FLAGS", "")
    if "NPROC" not in env and (several or "JAX_NUM_CPU_DEVICES" in env):
        changed["NPROC"] = THREADS
    return changed


def commands(
    run: Sequence[str],
    joins: Sequence[Join],
    envs: Sequence[Mapping[str, str]],
    folder: pathlib.Path,
) -> list[processes.Command]:
    """A process for each way to join; what it prints goes to files of `folder`."""
    found = []
    for i, (join, env) in enumerate(zip(joins, envs, strict=True)):
        name = "this process" if join.process is None else f"process {join.process}"
        argv = [*peer.words(join), *run]
        out, errors = (folder / f"{i}.{end}" for end in ("out", "err"))
        found.append(processes.Command(name, "launch.peer", argv, out, env, errors))
    return found


class Output:
    """What a process prints, read from its file while it does."""

    def __init__(self, path: pathlib.Path):
        self._path, self._read, self._rest, self._page = path, 0, "", False
        self.connected = False

    def news(self, last: bool = False) -> Iterator[str]:
        """The lines that are new, without what JAX and XLA tell of themselves."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
        if last and self._rest:
            lines, self._rest = [*lines, self._rest], ""
        for line in lines:
            self.connected |= peer.CONNECTED in line
            self._page |= _PAGE.match(line) is not None  # to its end
            if not (self._page or _NOISE.match(line)):
                yield line


def train(
    run: Sequence[str], joins: Sequence[Join], envs: Sequence[Mapping[str, str]]
) -> int:
    """Runs the processes of this host until all have ended; the code of the worst.

    Args:
        run: flags of experiments.main.
        joins: how each finds the others.
        envs: what the environment of each has beside the launcher's.
    """
    codes: dict[str, int] = {}
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="headwise-") as name:
        begun = commands(run, joins, envs, pathlib.Path(name))
        outs = {one.name: Output(one.log) for one in begun}
        errs = {one.name: Output(one.errors or one.log) for one in begun}
        deadline, interrupted = math.inf, False

        def look(last: bool = False) -> None:
            for output in outs.values():
                for line in output.news(last):
                    print(line, flush=True)
            for who, output in errs.items():
                for line in output.news(last):
                    mine = interrupted and line.startswith(signals.SAID)
                    again = said.setdefault(line, who) != who  # all tell of one fault
                    if not (again or mine):
                        print(line, file=sys.stderr, flush=True)
            if time.monotonic() > deadline:
                raise TimeoutError

        ends = processes.run(
            begun, len(begun), os.environ, look, ask=signal.SIGUSR1, grace=math.inf
        )
        try:
            with contextlib.closing(ends):
                for who, code in ends:
                    look(last=True)
                    codes[who], text = told(code, outs[who].connected, joins[0], who)
                    if codes[who] not in (0, signals.CODE):
                        deadline = time.monotonic() + PATIENCE
                    if text and (codes[who] != signals.CODE or deadline == math.inf):
                        print(text, file=sys.stderr, flush=True)
        except TimeoutError:
            pass
        except KeyboardInterrupt:
            interrupted = True  # which the caller says
            raise
        finally:
            with contextlib.suppress(TimeoutError):
                look(last=True)
    return max(codes.values(), key=lambda code: (code == 2, code not in (0, 75), code))


def told(code: int, connected: bool, join: Join, who: str) -> tuple[int, str | None]:
    """What the end of a process stands for, and the line that says it.

    JAX aborts a process (SIGABRT) that does not find the others, or loses one.

    Example:
        >>> told(0, True, Join("a:1", 2, 0, 60), "process 0")
        (0, None)
    """
    if code >= 0:
        return code, None
    who = f"{who} on {platform.node()}"
    if code == -signal.SIGUSR1:  # before it could catch it
        return signals.CODE, None
    if code != -signal.SIGABRT:
        name = signal.Signals(-code).name
        return 1, f"error: {who} ended by {name}"
    if connected:
        return signals.CODE, f"{who}: another process is gone; the same command goes on"
    where = "the coordinator that JAX found" if join.coordinator is None else ""
    count = "" if join.processes is None else f" {join.processes}"
    return 2, (
        f"error: --timeout: {who} waited {join.timeout} s for all{count} processes at "
        f"{where or join.coordinator}: is each of them started, and that port open?"
    )
