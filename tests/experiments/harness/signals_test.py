"""Interrupts: one line and 75 from anywhere, a second one at once, nohup is kept."""

import pathlib
import signal
import subprocess
import sys

import pytest

from experiments.harness import signals

ROOT = pathlib.Path(signals.__file__).parents[2]
BEFORE = """
import hashlib, sys, time
from experiments.harness import signals
signals.PATIENCE = 0.2
signals.catch()
"""
# Longer than the test, without the GIL: like a compiled program.
COMPILED = """
try:
    print("on", flush=True)
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
except KeyboardInterrupt as error:  # it had not begun
    print(signals.line(error))
    sys.exit(signals.CODE)
"""
STUCK = """
try:
    print("on", flush=True)
    time.sleep(600)
except KeyboardInterrupt as error:
    print(signals.line(error), flush=True)
    time.sleep(600)
"""
# As while `fit` saves: a handler of its own, which raises when it is done.
SAVES = """
import signal
number = signal.Signals[sys.argv[1]]
ours, asked = signal.getsignal(number), []

def note(number, frame):
    asked.append(number)
    print("asked", flush=True)

for each in (number, signal.SIGUSR1):
    signal.signal(each, note)
print("on", flush=True)
while len(asked) < 2:
    time.sleep(0.01)
time.sleep(3 * signals.PATIENCE)
print("saved", flush=True)
try:
    ours(number, None)
except KeyboardInterrupt as error:
    print(signals.line(error))
    sys.exit(signals.CODE)
"""
TWICE = [signal.SIGTERM, signal.SIGTERM]
WARNED = [signal.SIGUSR1, signal.SIGUSR1]


@pytest.mark.parametrize(
    ("code", "numbers", "ends", "said"),
    [
        (COMPILED, [signal.SIGTERM], 75, "interrupted by SIGTERM: the same command"),
        (COMPILED, [signal.SIGINT], 75, "interrupted by SIGINT: the same command"),
        (COMPILED, [signal.SIGUSR1], 75, "interrupted by SIGUSR1: the same command"),
        (STUCK, TWICE, -signal.SIGTERM, "interrupted by SIGTERM: the same command"),
        # What comes by two ways is one, and waits for what is saved.
        (SAVES, WARNED, 75, "saved\ninterrupted by SIGUSR1: the same command"),
        (SAVES, [signal.SIGTERM, signal.SIGUSR1], 75, "saved\ninterrupted by SIGTERM"),
    ],
)
def test_it_ends_whatever_it_does(code, numbers, ends, said, commands):
    process = subprocess.Popen(
        [sys.executable, "-c", BEFORE + code, signal.Signals(numbers[0]).name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    commands.append(process)
    lines = [process.stdout.readline()]
    for number in numbers[:-1]:
        process.send_signal(number)
        lines.append(process.stdout.readline())
    process.send_signal(numbers[-1])
    lines.append(process.communicate(timeout=300)[0])
    assert process.returncode == ends
    out = "".join(lines)
    assert said in out
    assert "Traceback" not in out


def test_what_is_ignored_stays_ignored():
    """As under `nohup`."""
    code = f"""
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
{BEFORE}
os.kill(os.getpid(), signal.SIGHUP)
print("goes on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "goes on\n")
