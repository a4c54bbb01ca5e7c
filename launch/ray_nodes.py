"""The nodes of a Ray cluster: what they have, and what each says when it is asked."""

import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from experiments.harness.text import UsageError
from launch import ray_cluster as cluster
from launch import ray_options
from launch.ray_options import Need
from launch.ray_task import Ended

PATIENCE = 300.0
"""Seconds that a node has to start a process, import JAX and look into the folder."""
DEVICES = 60.0
"""Seconds that a node has to give its devices; others may be using them."""


class Node(NamedTuple):
    """A node that is there."""

    id: str
    name: str
    has: Mapping[str, float]


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
    words = [*words, f"--devices={ray_options.devices(need)}"]
    for node, ended in _ask(words, env, need.options(), there, DEVICES):
        if ended is None:
            print(f"node {node.name} is busy: its devices are looked at by its workers")
        elif ended.code:
            raise UsageError(f"node {node.name}: {ended.line.removeprefix('error: ')}")


def _ask(
    words: Sequence[str],
    env: Mapping[str, str],
    options: Mapping[str, Any],
    there: Sequence[Node],
    seconds: float,
) -> Iterator[tuple[Node, Ended | None]]:
    """What `launch.worker --check` says on each node; None: not in time."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    for node in there:
        here = NodeAffinitySchedulingStrategy(node.id, soft=False)
        more = {**options, "scheduling_strategy": here}
        log = pathlib.Path(os.devnull, "none")  # kept by no one
        asked[cluster.submit([*words, "--check"], log, env, more)] = node
    try:
        done = cluster.wait(list(asked), seconds)
        for ref, node in asked.items():
            yield node, cluster.end(ref) if ref in done else None
    finally:
        cluster.cancel(list(asked))
