"""What the flags of `launch.ray` ask Ray for: of each task, of its nodes. Pure."""

import fnmatch
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from absl import flags

from experiments.harness import command
from experiments.harness import text
from experiments.harness.text import UsageError

CODE = pathlib.Path(__file__).resolve().parents[1]
"""The checkout."""
LEFT_BEHIND = (".?*", "studies", "runs", "docs", "tests", "build", "dist", "*cache*")
"""What workers do not need of a checkout."""


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


def define(values: flags.FlagValues) -> None:
    """The flags that concern Ray."""
    words = {
        "address": "of the cluster: auto, HOST:PORT or ray://HOST:PORT; else what "
        "RAY_ADDRESS says, or auto",
        "memory": "of each worker, as 16G, that Ray keeps count of",
        "resources": "other resources of each worker, as a100=1,disk=0.5",
        "working_dir": "the code that is sent to the nodes; else this checkout; none: "
        "it lies there, under the same name",
    }
    command.define(values, str, words)
    count = "tasks at a time; else as many as the cluster has room for"
    command.define(values, int, {"workers": count})
    each = "cohorts that a task trains: each starts JAX, and measures how to train"
    command.define(values, int, {"cohorts": each}, 1)
    for name, default in (("gpus", 0.0), ("cpus", 1.0)):
        meaning = f"{name.upper()[:3]}s of each worker; Ray keeps count of them"
        command.define(values, float, {name: meaning}, default)
    grows = "start though no node has room for a worker: the cluster will grow"
    command.define(values, bool, {"autoscale": grows})


def read(given: flags.FlagValues) -> Need:
    """What one task asks for.

    Raises:
        UsageError: what no node can have.

    Example:
        >>> values = flags.FlagValues()
        >>> define(values)
        >>> _ = values(["", "--gpus=1", "--cpus=4", "--memory=2G", "--resources=a=1"])
        >>> read(values).options()["memory"] == 2 * 2**30
        True
    """
    for name, number in (("--gpus", given.gpus), ("--cpus", given.cpus)):
        if not 0 <= number <= text.MOST or (number > 1 and number % 1):
            raise UsageError(
                f"{name}: expected a whole number, or a share of one, got {number:g}"
            )
    words = given.resources
    others = {} if words is None else text.pairs("--resources", words)
    numbers = {n: text.typed("--resources", n, x, 0.0) for n, x in others.items()}
    for name, number in numbers.items():
        if number <= 0 or name in ("CPU", "GPU", "memory"):
            raise UsageError(
                f"--resources: expected positive numbers of others than CPU, GPU and "
                f"memory (--cpus, --gpus, --memory), got {name}={number:g}"
            )
    return Need(given.cpus, given.gpus, size(given.memory), tuple(numbers.items()))


def size(words: str | None) -> int:
    """Bytes of a text.

    Raises:
        UsageError: it is no such text.

    Example:
        >>> size("1.5k"), size("2GB"), size(None)
        (1536, 2147483648, 0)
    """
    if words is None:
        return 0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", words.strip().lower())
    number = float(found[1]) * 1024 ** " kmgt".index(found[2] or " ") if found else 0
    if number < 1:
        raise UsageError(f"--memory: expected a size as 500M or 16G, got {words}")
    return int(number)


def environment(
    working_dir: str | None, env: Mapping[str, str], folder: pathlib.Path
) -> dict[str, Any]:
    """Ray's runtime_env: where the nodes have the code from.

    Args:
        working_dir: the flag.
        env: of the launcher. In a job of Ray that has brought its code, that is it.
        folder: of the study, which is not sent.

    Raises:
        UsageError: no code is there.

    Example:
        >>> environment("none", {"PYTHONPATH": "/lib"}, CODE)["env_vars"].keys()
        dict_keys(['PYTHONPATH'])
        >>> job = {"runtime_env": {"working_dir": "gcs://_ray_pkg_12.zip"}}
        >>> environment(None, {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}, CODE)
        {}
    """
    job = json.loads(env.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    brought = (job.get("runtime_env") or {}).get("working_dir")
    if working_dir is None and brought:
        return {}
    if working_dir == "none":
        paths = [str(CODE / "research"), str(CODE), env.get("PYTHONPATH", "")]
        return {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    root = text.folder("--working_dir", working_dir, str(CODE)).resolve()
    if not (root / "launch/worker.py").is_file():
        raise UsageError(
            f"--working_dir: expected a checkout, with launch/ in it, got {root}"
        )
    left = [f"/{name}" for name in LEFT_BEHIND] + ["__pycache__"]
    if folder.resolve().is_relative_to(root):
        place = folder.resolve().relative_to(root)
        known = any(fnmatch.fnmatch(place.parts[0], name) for name in LEFT_BEHIND)
        left += [] if known else [f"/{place}"]
    return {"working_dir": str(root), "excludes": left}


def variables(
    asked: Need, env: Mapping[str, str], folder: pathlib.Path
) -> dict[str, str]:
    """What a worker's environment has beside that of its node.

    Not CUDA_VISIBLE_DEVICES: that is Ray's.

    Args:
        asked: of each task.
        env: of the launcher: what it says to JAX and XLA holds for workers, too.
        folder: of the study.

    Example:
        >>> half = variables(Need(gpus=0.5), {"XLA_FLAGS": "-a"}, pathlib.Path("/s"))
        >>> half.pop("JAX_COMPILATION_CACHE_DIR")
        '/s/cache'
        >>> half["JAX_PLATFORMS"], half["XLA_PYTHON_CLIENT_MEM_FRACTION"]
        ('cuda', '0.375')
    """
    found = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    found |= {n: x for n, x in env.items() if n.startswith(("JAX_", "XLA_"))}
    if asked.gpus and found.get("JAX_PLATFORMS", "cpu") in ("", "cpu"):
        found["JAX_PLATFORMS"] = "cuda"  # one that finds none must not use the CPU
    if 0 < asked.gpus < 1:  # JAX takes 3/4 of a GPU
        found.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.75 * asked.gpus:.3g}")
    return found


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


def devices(need: Need) -> int | None:
    """How many devices a worker must find; None: those that there are."""
    return max(int(need.gpus), 1) if need.gpus else None


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
