"""Runs a module as a command that ends when its launcher does.

    python -m launch.child PIPE MODULE FLAG...

PIPE is the reading end of a pipe that the launcher alone holds open: nothing is written
to it, and it ends with the launcher, also by `kill -9`.
"""

import os
import runpy
import signal
import sys
import threading


def watch(pipe: int) -> None:
    """Kills this process, and its children, once the pipe's other end is closed."""
    os.set_inheritable(pipe, False)

    def wait() -> None:
        os.read(pipe, 1)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _, pipe, module, *argv = sys.argv
    watch(int(pipe))
    sys.argv = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
