"""One of the processes that train one model: joins them, then is experiments.main.

    python -m launch.peer --coordinator=node1:1234 --processes=2 --process=0 \
        --experiment=digits --balancer=mgda --mesh=data:2

What launch.multihost starts on each host. Without a coordinator JAX finds the others by
what the site says. A process that fails ends at once, so that the others see it; one
that loses another says so in one line.
"""

import gc
import os
import platform
import re
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NamedTuple

import jax
from absl import flags

from experiments import main as experiment
from experiments.harness import command
from experiments.harness import request as requests
from experiments.harness import signals
from experiments.harness import text
from experiments.harness.text import UsageError

CONNECTED = "is connected to the others"
"""What a process says once all are there."""
TIMEOUT = 60
"""Seconds to wait for the others, if nothing else is asked for."""
SAYING = 1.0
"""Seconds that process 0, without which all end, leaves others to say what it says."""
_GONE = re.compile(
    "gloo|nccl|coordination service|heartbeat|barrier|connection (reset|closed)"
    "|unavailable|deadline_exceeded",
    re.IGNORECASE,
)


class Join(NamedTuple):
    """How a process finds the others."""

    coordinator: str | None
    """HOST:PORT of process 0; None: JAX finds it, and the numbers, too."""
    processes: int | None
    process: int | None
    timeout: int
    devices: list[int] | None = None
    """Places of its GPUs among those that it sees; None: JAX decides."""


def define(values: flags.FlagValues) -> None:
    """The flags of a run, and how its processes find each other."""
    requests.define(values)
    joins(values)
    ids = "places of the GPUs that it takes, among those that it sees, as 0,1"
    command.define(values, str, {"device_ids": ids})


def joins(values: flags.FlagValues) -> None:
    """The flags by which processes find each other."""
    where = "HOST:PORT where process 0 listens; with --processes and --process"
    command.define(values, str, {"coordinator": where})
    numbers = {
        "processes": "how many there are",
        "process": "which one this is, from 0",
    }
    command.define(values, int, numbers)
    wait = "seconds to wait for the others"
    command.define(values, int, {"timeout": wait}, TIMEOUT)


def read(given: flags.FlagValues) -> Join:
    """How parsed flags say that the others are found.

    Raises:
        UsageError: only some of --coordinator, --processes, --process; no such process.
    """
    names = "coordinator", "processes", "process"
    missing = [f"--{name}" for name in names if given[name].value is None]
    if missing and len(missing) < len(names):
        there = [f"--{name}" for name in names if given[name].value is not None]
        raise UsageError(
            f"{' and '.join(there)}: expected {' and '.join(missing)}, too (or none of "
            "them: JAX then finds the others by what SLURM, Open MPI, Kubernetes or a "
            "TPU says)"
        )
    timeout = text.whole("--timeout", given.timeout, 1) or TIMEOUT
    if missing:
        return Join(None, None, None, timeout)
    host, colon, port = given.coordinator.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"--coordinator: expected HOST:PORT, got {given.coordinator}")
    text.whole("--processes", given.processes, 1)
    text.whole("--process", given.process, 0)
    if given.process >= given.processes:
        raise UsageError(
            f"--process: expected 0 to {given.processes - 1}, as there are "
            f"{given.processes} --processes; got {given.process}"
        )
    return Join(given.coordinator, given.processes, given.process, timeout)


def words(join: Join) -> list[str]:
    """The flags of `joins`, and `--device_ids`, that say this.

    Example:
        >>> words(Join("a:1", 2, 0, 60))
        ['--timeout=60', '--coordinator=a:1', '--processes=2', '--process=0']
    """
    ids = None if join.devices is None else ",".join(map(str, join.devices))
    given = {
        "timeout": join.timeout,
        "coordinator": join.coordinator,
        "processes": join.processes,
        "process": join.process,
        "device_ids": ids,
    }
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def of_run(given: flags.FlagValues) -> list[str]:
    """Those of the parsed flags that are of the run, as experiments.main takes them."""
    run = flags.FlagValues()
    requests.define(run)
    return [given[name].serialize() for name in run if given[name].present]


def connect(join: Join) -> None:
    """Waits until all processes are there.

    Proxies are for the world outside: the channel to the coordinator takes none. JAX's
    own handler of SIGTERM would keep it from Python, which saves and ends with 75.

    Raises:
        UsageError: they do not come in time (process 0, and JAX's own ways to find the
            others, end the process instead: launch.multihost says it), or JAX refuses.
    """
    jax.config.update("jax_enable_preemption_service", False)
    if join.process:
        reach(join)
    kept = {name: os.environ.pop(name) for name in [*os.environ] if _is_proxy(name)}
    try:
        jax.distributed.initialize(
            join.coordinator,
            join.processes,
            join.process,
            local_device_ids=join.devices,
            cluster_detection_method=join.coordinator and "deactivate",
            initialization_timeout=join.timeout,
        )
    except Exception as error:  # also of a cluster's own package
        port = "; another program may listen at its port: set JAX_COORDINATOR_PORT"
        hint = port if "RPC server" in str(error) and join.coordinator is None else ""
        raise UsageError(
            f"--mesh: {platform.node()} cannot join the others: {error}{hint}"
        ) from error
    finally:
        os.environ.update(kept)


def reach(join: Join) -> None:
    """Waits until the coordinator listens."""
    host, _, port = str(join.coordinator).rpartition(":")
    end, why = time.monotonic() + join.timeout, "no answer"
    while time.monotonic() < end:
        try:
            socket.create_connection((host.strip("[]"), int(port)), 2).close()
            return
        except OSError as error:
            why = str(error)
        time.sleep(0.2)
    raise UsageError(
        f"--coordinator: process {join.process} on {platform.node()} did not reach "
        f"{join.coordinator} within {join.timeout} s ({why}): is process 0 started on "
        "that host, and its port open to the others?"
    )


def main(argv: Sequence[str]) -> int:
    """Joins the others and trains with them."""
    given = command.parse(argv, define, __doc__)
    join = read(given)
    ids = given.device_ids
    if ids is not None:
        join = join._replace(devices=[int(n) for n in ids.split(",")])
    connect(join)
    process, processes = jax.process_index(), jax.process_count()
    name = f"process {process} of {processes} on {platform.node()}"
    local, all_ = jax.local_device_count(), jax.device_count()
    print(f"{name} {CONNECTED}: {local} of {all_} devices", flush=True)
    try:
        return experiment.main(["main", *of_run(given)]) or 0
    except Exception as error:
        if not _GONE.search(str(error)):
            raise
        first = " ".join(str(error).split())[:200]
        end(signals.CODE, f"{name}: another process is gone: {first}")
        raise


def end(code: int, said: str | None = None) -> None:
    """Ends this process at once: the others see it, and wait for nothing."""
    if said is not None:
        print(said, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")


if __name__ == "__main__":
    flags.FLAGS.mark_as_parsed()
    signals.catch()
    gc.freeze()
    try:
        code = command.guarded(main, sys.argv)
        if jax.distributed.is_initialized():
            if code in (0, signals.CODE):
                jax.distributed.shutdown()  # when all are so far
            elif jax.process_index() == 0:
                time.sleep(SAYING)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        code = 1
    end(code)
