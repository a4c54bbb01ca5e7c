"""Commands as processes: begun, waited for, ended; who of them still runs.

A wait is as long as a busy machine of two cores may need: what does not come by then
is taken for lost. What has to be at work meanwhile is held (`_held.py`), not long.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

from experiments.harness import command
from experiments.harness import plan as plans
from experiments.harness import sweep
from launch import local
from launch import plan as places

ROOT = pathlib.Path(__file__).parents[2]
TINY = ROOT / "tests/launch/_tiny.py"
HELD = ROOT / "tests/launch/_held.py"
PATIENCE = 300
"""Seconds."""
FOREVER = "--steps=2000000000"
"""Half an hour of `_tiny` where a step takes a microsecond."""
# Of this process nothing but the place of compiled programs, which workers share.
ENVIRONMENT = {"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"} | {
    name: value
    for name, value in os.environ.items()
    if name == "XLA_FLAGS" or name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
}


def begin(*words, module="launch.local", environment=ENVIRONMENT, **options):
    """A process, which belongs to the fixture `commands`."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
        **given,
    )


def end(process):
    """(exit code, what it said), once it has ended."""
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


def run(*words, **options):
    """(exit code, what it said) of a command from its begin to its end."""
    with begin(*words, **options) as process:
        try:
            return end(process)
        finally:
            process.kill()


def here(capture, module, *words):
    """Exit code, output and errors of a command, in this process."""
    code = command.guarded(module.main, [module.__name__, *map(str, words)])
    return code, *capture.readouterr()


def planned(*words):
    """The study of these flags of `launch.local`."""
    given = command.parse(["local", *words], local.define, "")
    return plans.make(places.read(given))


def alone(*words):
    """The records of a study that this process trains: what others must come to."""
    return sweep.train(planned(*words), progress=False)


def until(true, seconds=PATIENCE):
    """Waits until something holds."""
    last = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < last
        time.sleep(0.05)
    return found


def processes_of(folder, module=""):
    """{process: its words} of what runs, names this folder and runs this module."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # gone
            continue
        if any(str(folder) in word for word in words) and (module or words[0]) in words:
            found[int(path.parent.name)] = words
    return found


def claims(folder):
    """Names of the claims of a study."""
    return sorted(path.name for path in folder.glob("claims/*.[0-9]"))


def trains(folder):
    """Whether a worker of a study is past its first steps: a signal lets it save."""
    says = [
        json.loads(path.read_text())["says"] for path in folder.glob("beats/*.json")
    ]
    return any("step" in one for each in says for one in each.values())
