"""What a task of Ray does on its node: one worker as a child process, and its end.

Ray's processes import this, so it needs neither JAX nor headwise.
"""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from launch import processes

LOST = 1
"""The code of a task that did not come back."""


class Ended(NamedTuple):
    """How a task ended."""

    code: int
    """Of the worker, as the command's; negative: the signal that ended it."""
    line: str
    """The last that it said."""
    host: str


def run(words: Sequence[str], log: pathlib.Path, env: Mapping[str, str]) -> Ended:
    """Runs `launch.worker` with these flags, until it ends.

    It ends with this process, however that ends; an interrupt (`ray.cancel`) asks it
    to save. What Ray put into the environment (CUDA_VISIBLE_DEVICES) stays as it is.

    Args:
        words: the flags.
        log: the file for what it prints. Where its folder is not there, none is kept.
        env: what its environment has beside that of this process.
    """
    root = pathlib.Path(processes.__file__).resolve().parents[1]
    paths = [str(root / "research"), str(root), os.environ.get("PYTHONPATH", "")]
    more = dict(env) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    more |= _names()
    with contextlib.ExitStack() as stack:
        if not log.parent.is_dir():
            log = pathlib.Path(
                stack.enter_context(tempfile.TemporaryDirectory()), "log"
            )
        command = processes.Command("worker", "launch.worker", list(words), log, more)
        ends = stack.enter_context(
            contextlib.closing(processes.run([command], 1, os.environ))
        )
        ((_, code),) = ends
        return Ended(code, processes.why(log, code), os.uname().nodename)


def _names() -> dict[str, str]:
    """What a user of Ray finds this task by."""
    import ray

    context = ray.get_runtime_context()
    return {"RAY_JOB_ID": context.get_job_id(), "RAY_NODE_ID": context.get_node_id()}
