"""Functions in forked processes, which may be killed or stopped, and their answers.

Forked from one that has imported everything and computed nothing, they start at once.
"""

import contextlib
import json
import os
import signal
import subprocess
import time

SECONDS = 300
"""After which a process that hangs is ended, and has no answer."""


class Process:
    """A forked process and, in the end, what its function gave or the error's text."""

    def __init__(self, function, *arguments):
        self.start = time.monotonic()
        self.pipe, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.alarm(SECONDS)
            try:
                answer = function(*arguments)
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            with os.fdopen(end, "w") as file:
                json.dump(answer, file)
            os._exit(0)
        os.close(end)

    def answer(self):
        """None for a process that was killed."""
        with os.fdopen(self.pipe) as file:
            text = file.read()
        os.waitpid(self.pid, 0)
        return json.loads(text) if text else None


def call(function, *arguments):
    return Process(function, *arguments).answer()


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A disk of that size in a folder that is made; gives what fills it: ENOSPC.

    Calling that fills the disk, removing its `folder / "filler"` makes room again. None
    where nothing may be mounted.
    """
    folder.mkdir()
    size = f"size={megabytes}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return

    def fill():
        filler = (folder / "filler").open("wb", buffering=0)
        with contextlib.suppress(OSError), filler:
            while filler.write(bytes(4096)):
                pass

    try:
        yield fill
    finally:
        subprocess.run(["umount", str(folder)], check=True)
