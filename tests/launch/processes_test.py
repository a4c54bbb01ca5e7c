"""Children of a launcher: so many at a time, and none outlives it, however it ends."""

import os
import pathlib
import pty
import signal
import subprocess
import sys

import pytest

from launch import processes
from tests.launch import _commands
from tests.launch._commands import until

ROOT = pathlib.Path(processes.__file__).parents[1]
# A launcher without JAX. Its children are `python -m timeit`, which runs any code.
LAUNCHER = """
import contextlib, os, pathlib, signal, sys
from experiments.harness import signals
from launch import processes

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` would hand on that it is ignored
processes.GRACE = 0.3
folder, at_once, grandchild = pathlib.Path(sys.argv[1]), 2, sys.argv[2:]
sleeps = "import time; time.sleep(600)"
stubborn = "import signal; signal.signal(15, signal.SIG_IGN); " + sleeps
parent = "import subprocess; subprocess.call(['sleep', '600'])"
codes = {"quick": "pass", "stubborn": stubborn, "parent": parent, "waits": "print(1)"}
commands = [
    processes.Command(name, "timeit", ["-n1", "-r1", code], folder / name)
    for name, code in codes.items()
]
signals.catch()
ends = processes.run(commands, 2, dict(os.environ) | {"STUDY": str(folder)})
try:
    with contextlib.closing(ends):
        for name, code in ends:
            print(name, code, flush=True)
            if (folder / "fault").exists():
                raise OSError("a disk is full")
except KeyboardInterrupt as error:
    print(signals.line(error), flush=True)
    sys.exit(signals.CODE)
"""


def started(folder, **options):
    """The launcher, when its second and third child run; its output goes to a file."""
    with (folder / "launcher").open("wb") as log:
        launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(folder)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            **options,
        )
    try:
        until(lambda: len(alive(folder)) >= 3 or launcher.poll() is not None)
    except AssertionError:
        launcher.kill()
        launcher.wait()
        raise
    return launcher


def alive(folder):
    """The processes of this study, by their environment, without the launcher."""
    mark, found = f"STUDY={folder}".encode(), []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:  # not ours, or gone
            continue
    return found


def code_of(launcher):
    """How it ends, which it does in time."""
    try:
        return launcher.wait(_commands.PATIENCE)
    finally:
        launcher.kill()


def interrupt(folder, number):
    launcher = started(folder)
    launcher.send_signal(number)
    return code_of(launcher)


def from_the_keyboard(folder, times):
    """Ctrl-C on a terminal of its own."""
    main, side = pty.openpty()
    launcher = started(folder, stdin=side, start_new_session=True)
    os.close(side)
    for _ in range(times):
        os.killpg(launcher.pid, signal.SIGINT)  # what the terminal does
    code = code_of(launcher)
    os.close(main)
    return code


def fault(folder):
    (folder / "fault").touch()
    return code_of(started(folder))


def no_log(folder):
    """The log of the third cannot be written."""
    (folder / "parent").mkdir()
    return code_of(started(folder))


WAYS = {
    "SIGINT to the launcher alone": (interrupt, signal.SIGINT, 75),
    "Ctrl-C": (from_the_keyboard, 1, 75),
    "Ctrl-C twice": (from_the_keyboard, 2, None),
    "SIGTERM": (interrupt, signal.SIGTERM, 75),
    "SIGHUP": (interrupt, signal.SIGHUP, 75),
    "kill -9": (interrupt, signal.SIGKILL, -9),
    "an error in the launcher": (fault, None, 1),
    "a log that cannot be written": (no_log, None, 1),
}


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="/proc")
@pytest.mark.parametrize("way", WAYS)
def test_no_child_outlives_its_launcher(way, tmp_path):
    end, argument, code = WAYS[way]
    found = end(tmp_path) if argument is None else end(tmp_path, argument)
    assert found == code or (code is None and found in (75, -signal.SIGINT))
    until(lambda: alive(tmp_path) == [])  # by themselves they would run longer
    said = (tmp_path / "launcher").read_text()
    assert not (tmp_path / "waits").exists()  # what waited was not begun
    if code == 75:
        assert said.splitlines()[-1].endswith(": the same command goes on")
        assert "Traceback" not in said


def test_all_run_in_turn(tmp_path):
    codes = {"a": "pass", "b": "import os; os._exit(3)", "c": "print('here')"}
    commands = [
        processes.Command(name, "timeit", ["-n1", "-r1", code], tmp_path / name)
        for name, code in codes.items()
    ]
    env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)}
    assert dict(processes.run(commands, 2, env)) == {"a": 0, "b": 3, "c": 0}
    assert "here" in (tmp_path / "c").read_text()
