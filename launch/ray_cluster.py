"""A cluster of Ray as a launcher meets it: reach it, count its nodes, ask each of them.

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
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.harness import signals
from experiments.harness.text import UsageError
from launch import ray_task
from launch.processes import GRACE
from launch.ray_task import Ended

TIMEOUT = 5.0
"""Seconds in which the address must answer."""
PATIENCE = 300.0
"""Seconds that a node has to start a process, import JAX and look into the folder."""
DEVICES = 60.0
"""Seconds that a node has to give its devices; others may be using them."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "3",  # of 20, a second or more each
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # or it warns of a default to come
}
"""Said to Ray where the user has said nothing."""


class Need(NamedTuple):
    """What one task asks of its node."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    """Bytes."""
    others: tuple[tuple[str, float], ...] = ()
    """Resources by name."""

    def totals(self) -> dict[str, float]:
        """By the names that nodes have them under."""
        named = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {name: x for name, x in (named | dict(self.others)).items() if x}

    def options(self) -> dict[str, Any]:
        """As options of a task."""
        found: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        found |= {"memory": self.memory} if self.memory else {}
        return found | ({"resources": dict(self.others)} if self.others else {})


class Node(NamedTuple):
    """A node that is there."""

    id: str
    name: str
    has: Mapping[str, float]


def room(need: Need, has: Mapping[str, float]) -> int:
    """How many tasks a node holds at a time.

    Example:
        >>> room(Need(cpus=4, gpus=0.5), {"CPU": 16.0, "GPU": 1.0})
        2
        >>> room(Need(cpus=4, gpus=1), {"CPU": 64.0})
        0
    """
    asked = need.totals().items()
    return min((int(has.get(name, 0) / x + 1e-6) for name, x in asked), default=1)


def lacks(need: Need, nodes: Sequence[Node]) -> str:
    """Why no node holds a task, in words.

    Example:
        >>> lacks(Need(cpus=2, gpus=1), [Node("ab", "host", {"CPU": 8.0})])
        'one task asks for CPU=2, GPU=1; the node with the most of it has CPU=8'
    """
    asked = need.totals()

    def share(has: Mapping[str, float]) -> float:
        return sum(min(has.get(name, 0) / x, 1.0) for name, x in asked.items())

    best = max((node.has for node in nodes), key=share, default={})
    has = ", ".join(f"{name}={best[name]:g}" for name in asked if name in best)
    wanted = ", ".join(f"{name}={x:g}" for name, x in asked.items())
    return f"one task asks for {wanted}; the node with the most of it has {has or '0'}"


def host_and_port(address: str) -> tuple[str, int] | None:
    """Where an address is, if it says so.

    Raises:
        UsageError: it is no address.

    Example:
        >>> host_and_port("ray://head:10001"), host_and_port("auto")
        (('head', 10001), None)
    """
    if address == "auto":
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageError(
            f"--address: expected auto, HOST:PORT or ray://HOST:PORT, got {address}"
        )
    return host.strip("[]"), int(port)


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
    place = host_and_port(address)
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = imported()
        logging.getLogger("ray").setLevel(logging.CRITICAL)
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


def nodes() -> list[Node]:
    """The nodes that are alive."""
    import ray

    return [
        Node(
            one["NodeID"],
            f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']})",
            one["Resources"],
        )
        for one in ray.nodes()
        if one["Alive"]
    ]


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


def end(ref: Any) -> Ended:
    """How a task that is over ended; what Ray says of it, if it did not come back."""
    import ray

    try:
        return Ended(*ray.get(ref))
    except ray.exceptions.RayError as error:
        return Ended(ray_task.LOST, _line(error), "a node of Ray")


def cancel(refs: Sequence[Any]) -> None:
    """Asks the workers of tasks to save and end, and waits for them."""
    import ray

    for ref in refs:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(ref, force=False)
    if refs:
        ray.wait(list(refs), num_returns=len(refs), timeout=GRACE + TIMEOUT)


def check(
    words: Sequence[str], env: Mapping[str, str], need: Need, there: Sequence[Node]
) -> None:
    """Has each node look whether a worker could work there, before any does.

    First into the folder and at the code, at once; then, where GPUs are asked for, at
    the devices, as far as they are free.

    Raises:
        UsageError: one could not; names the node.
    """
    bare, none = {**env, "JAX_PLATFORMS": "cpu"}, Need(cpus=0).options()
    for node, ended in _ask(words, bare, none, there, PATIENCE):
        if ended is None:
            raise UsageError(f"node {node.name}: no answer within {PATIENCE:.0f} s")
        if ended.code:
            raise UsageError(f"node {node.name}: {ended.line.removeprefix('error: ')}")
    if not need.gpus:
        return
    words = [*words, f"--devices={devices(need)}"]
    for node, ended in _ask(words, env, need.options(), there, DEVICES):
        if ended is None:
            print(f"node {node.name} is busy: its devices are looked at by its workers")
        elif ended.code:
            raise UsageError(f"node {node.name}: {ended.line.removeprefix('error: ')}")


def devices(need: Need) -> int | None:
    """How many devices a worker must find; None: those that there are."""
    return max(int(need.gpus), 1) if need.gpus else None


def _ask(
    words: Sequence[str],
    env: Mapping[str, str],
    options: Mapping[str, Any],
    there: Sequence[Node],
    seconds: float,
) -> Iterator[tuple[Node, Ended | None]]:
    """What `launch.worker --check` says on each node; None: not in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    for node in there:
        here = NodeAffinitySchedulingStrategy(node.id, soft=False)
        more = {**options, "scheduling_strategy": here}
        log = pathlib.Path(os.devnull, "none")  # kept by no one
        asked[submit([*words, "--check"], log, env, more)] = node
    try:
        done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
        for ref, node in asked.items():
            yield node, end(ref) if ref in done else None
    finally:
        cancel(list(asked))


def _line(error: BaseException) -> str:
    """What an error of Ray says, without its pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = re.sub("\x1b\\[[0-9;]*m", "", str(error))  # colours
    if "failed to import" in said:
        return "the code of this launcher is not there (--working_dir sends it)"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    traced = any("Traceback" in line or line.startswith("File ") for line in lines)
    return lines[-1] if traced else " ".join(lines[:3])
