"""The command of xpk that makes a JobSet on GKE. Pure."""

import shlex
from collections.abc import Sequence

from experiments.harness import signals
from launch.jobset import Pods


def create(pods: Pods, cluster: str, device: str) -> list[str]:
    """The same as a command of xpk, which writes a JobSet of its own.

    It begins again, all pods, on 42, 127 to 255 and what is named.

    Args:
        pods: `claim` is the name of the storage that xpk knows the volume by.
        cluster: of xpk.
        device: a type of xpk, as v5litepod-16 or h100-80gb-8.
    """
    command, tpu = list(pods.command), "google.com/tpu" in pods.resources
    run = shlex.join(command)
    if pods.together and not tpu:  # variables that xpk sets in pods with GPUs
        where = "$JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT"
        run += f" --coordinator={where} --processes=$NNODES --process=$NODE_RANK"
    slices = pods.slices if pods.together else pods.number
    count = f"--num-slices={slices}" if tpu else f"--num-nodes={pods.number}"
    place = "" if pods.directory is None else f"cd {shlex.quote(pods.directory)} && "
    return [
        *("xpk", "workload", "create", f"--cluster={cluster}"),
        f"--workload={pods.name}",
        f"--docker-image={pods.image}",
        f"--{'tpu' if tpu else 'device'}-type={device}",
        count,
        f"--storage={pods.claim}",
        f"--max-restarts={pods.restarts}",
        f"--restart-on-exit-codes={signals.CODE}",
        f"--termination-grace-period-seconds={pods.grace}",
        *(f"--env={name}={value}" for name, value in pods.env.items()),
        f"--command={place}{run}",
    ]


def shell(words: Sequence[str]) -> str:
    r"""A command over several lines, a flag a line.

    Example:
        >>> print(shell(["xpk", "create", "--a=1 2", "--b"]))
        xpk create \
            '--a=1 2' \
            --b
    """
    flags = [word for word in words if word.startswith("-")]
    head = shlex.join(word for word in words if not word.startswith("-"))
    return " \\\n    ".join([head, *map(shlex.quote, flags)])
