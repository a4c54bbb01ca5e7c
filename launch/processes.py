"""Many commands as child processes, so many at a time; none outlives this process.

However it ends, what waits is not begun and what runs is stopped: by an exception here
(an interrupt, too), or by the end of the pipe that the children watch (`child.py`).
"""

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from experiments.harness import signals

GRACE = signals.SAVING + signals.PATIENCE
"""Seconds that a child has to end by itself when it is asked to: to save, too."""
_PAUSE = 0.05


class Command(NamedTuple):
    """One process."""

    name: str
    module: str
    argv: list[str]
    log: pathlib.Path
    """The file that what it prints goes to, after what is there."""
    env: Mapping[str, str] = types.MappingProxyType({})
    """What its environment has beside the others'."""


def run(
    commands: Sequence[Command],
    at_once: int,
    env: Mapping[str, str],
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[tuple[str, int], None, None]:
    """Runs all; yields name and exit code of each when it ends.

    Close the iterator (`contextlib.closing`) to stop before the end.

    Args:
        commands: in the order in which they are begun.
        at_once: how many run at a time.
        env: their environment.
        meanwhile: called many times a second.
    """
    waiting = collections.deque(commands)
    running: dict[str, subprocess.Popen] = {}
    pipe, held = os.pipe()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                command = waiting.popleft()
                running[command.name] = _start(command, pipe, env)
            codes = {name: child.poll() for name, child in running.items()}
            for name, code in codes.items():
                if code is not None:
                    del running[name]
                    yield name, code
            if None in codes.values():
                meanwhile()
                time.sleep(_PAUSE)
    finally:
        _stop(running.values())
        os.close(held)
        os.close(pipe)


def _start(command: Command, pipe: int, env: Mapping[str, str]) -> subprocess.Popen:
    """A child in a session of its own: the terminal's signals go to the launcher."""
    module = [sys.executable, "-m", "launch.child", str(pipe), command.module]
    with command.log.open("ab") as log:
        return subprocess.Popen(
            [*module, *command.argv],
            env={**env, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(pipe,),
            start_new_session=True,
        )


def _stop(children: Collection[subprocess.Popen]) -> None:
    """Asks the children to end, then ends them, with all that they have begun."""
    try:
        _signal(children, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while time.monotonic() < end and any(
            child.poll() is None for child in children
        ):
            time.sleep(_PAUSE)
    finally:
        _signal(children, signal.SIGKILL)
        for child in children:
            child.wait()


def _signal(children: Collection[subprocess.Popen], number: int) -> None:
    for child in children:
        # Its group outlives it while one of it runs. macOS refuses where none does.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
