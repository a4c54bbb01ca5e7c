"""A cluster of Ray as a launcher meets it: reach it, give it tasks, take them back.

Ray is imported in functions: a dry run needs none. What Ray says of a mistake in pages,
and after minutes, is one line here, within seconds.
"""

import contextlib
import logging
import os
import pathlib
import re
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from experiments.harness import signals
from experiments.harness.text import UsageError
from launch import ray_options
from launch import ray_task
from launch.processes import GRACE
from launch.ray_task import Ended

TIMEOUT = 5.0
"""Seconds in which the address must answer."""
PERIOD = 0.2
"""Seconds between two looks."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # of 20, at something that is no Ray
    "RAY_py_gcs_connect_timeout_s": "10",  # of 30, each
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # or it warns of a default to come
}
"""Said to Ray where the user has said nothing."""


def connect(address: str, environment: Mapping[str, Any]) -> None:
    """Joins the cluster at an address, as a driver.

    Args:
        address: `auto`, HOST:PORT or ray://HOST:PORT.
        environment: Ray's runtime_env.

    Raises:
        UsageError: no Ray is there, or it refuses: versions that differ, a token that
            is missing, an environment that cannot be made.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    place = ray_options.host_and_port(address)
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = imported()
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        # As Ray's debugger does: of a node that is lost it prints pages.
        ray._private.worker._worker_logs_enabled = False
        if place is not None:
            _reach(address, *place)
        try:
            options: dict[str, Any] = {"log_to_driver": False}
            if not address.startswith("ray://"):
                options["configure_logging"] = False
            with _silent():
                ray.init(address, runtime_env=dict(environment), **options)
        except SystemExit:  # Ray's answer to SIGTERM, until the handlers are ours again
            raise KeyboardInterrupt("SIGTERM") from None
        except Exception as error:
            raise UsageError(f"--address={address}: {_line(error)}") from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def leave() -> None:
    """Leaves the cluster; what still runs of this launcher there ends."""
    import ray

    with _silent():
        ray.shutdown()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing is written to standard error, by no thread and no library."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def imported() -> Any:
    """Ray.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            f"launch.ray needs Ray ({error}): pip install -e '.[ray]'"
        ) from None
    return ray


def _reach(address: str, host: str, port: int) -> None:
    """A UsageError unless something listens there; Ray itself would try for minutes."""
    import ray

    hosts = [host]
    if host in ("localhost", "127.0.0.1", "::1"):  # Ray reads them so, too
        hosts.append(ray.util.get_node_ip_address())
    for one in hosts:
        try:
            socket.create_connection((one, port), TIMEOUT).close()
            return
        except OSError as error:
            why = error
    raise UsageError(
        f"--address={address}: no Ray is there ({why}); `ray start --head` begins one"
    )


def submit(
    words: Sequence[str],
    log: pathlib.Path,
    env: Mapping[str, str],
    options: Mapping[str, Any],
) -> Any:
    """One task that runs `launch.worker`; its reference.

    Ray never tries it again by itself: the launcher does, and knows what came of it.
    """
    import ray

    task = ray.remote(ray_task.run).options(max_retries=0, **options)
    return task.remote(list(words), log, dict(env))


def wait(refs: Sequence[Any], seconds: float = 0.0) -> list[Any]:
    """Waits until all tasks are over; those that are, if it takes longer.

    Not within `ray.wait`, which tells any signal as a Ctrl-C.
    """
    import ray

    last = time.monotonic() + seconds
    while refs:
        over, rest = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        if not rest or time.monotonic() >= last:
            return over
        time.sleep(PERIOD)
    return []


def end(ref: Any) -> Ended:
    """How a task that is over ended; what Ray says of it, if it did not come back."""
    import ray

    try:
        return Ended(*ray.get(ref))
    except ray.exceptions.RayError as error:
        return Ended(ray_task.LOST, _line(error), "")


def cancel(refs: Sequence[Any]) -> None:
    """Asks the workers of tasks to save and end, and waits for them.

    A task that is over is left alone: if its end is on the way, Ray 2.60 ends the
    driver's process (`Check failed: ... Tried to complete task that was not pending`).
    """
    import ray

    over = wait(refs)
    running = [ref for ref in refs if ref not in over]
    for ref in running:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(ref, force=False)
    wait(running, GRACE + TIMEOUT)


def _line(error: BaseException) -> str:
    """What an error of Ray says, without its pages."""
    while error.__cause__ is not None and str(error.__cause__):
        error = error.__cause__
    said = re.sub("\x1b\\[[0-9;]*m", "", str(error))  # colours
    if "failed to import" in said:
        return "the code of this launcher is not there (--working_dir sends it)"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if any("Traceback" in line or line.startswith("File ") for line in lines):
        return lines[-1]
    if ". " in lines[0]:  # then causes that there may be, and how Ray is asked
        return ". ".join(lines[0].split(". ")[:2])
    return " ".join(lines)[:500]
