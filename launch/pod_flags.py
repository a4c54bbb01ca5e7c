"""What the flags of a manifest say of its pods: devices, nodes, volume, variables."""

import pathlib
import re
from typing import Any

from absl import flags

from experiments.harness import command
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import jobset

_AMOUNT = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")
TEXTS = {
    "kind": "jobset or xpk",
    "output": "file to write; else it is printed",
    "name": "of the JobSet; else the experiment's",
    "image": "of the container, which holds the checkout",
    "directory": "of the checkout in the image; else its working directory",
    "claim": "persistent volume claim (xpk: storage) that holds the folder",
    "mount": "where the pods see it; else the first part of the folder's path",
    "tpu": "kind of TPU, as tpu-v5-lite-podslice (gke-tpu-accelerator)",
    "topology": "of a slice of TPUs, as 2x4 (gke-tpu-topology)",
    "cpus": "that a pod asks for, as 8 or 500m",
    "memory": "of a pod, as 32Gi",
    "select": "labels of nodes, as cloud.google.com/gke-accelerator=nvidia-l4",
    "env": "variables of the pods, as NAME=VALUE,...",
    "queue": "of Kueue",
    "cluster": "of xpk",
    "device": "type of xpk, as v5litepod-16 or h100-80gb-8",
}
NUMBERS = {
    "hosts": (None, "of one training, of GPUs or CPUs; TPUs: by --topology"),
    "gpus": (None, "of a pod"),
    "chips": (4, "TPU chips of a host"),
    "slices": (1, "of TPUs that train one model"),
    "max_restarts": (10, "how often a pod, or a training, begins again"),
    "chunk_seconds": (10, "what a chunk takes, at most"),
    "checkpoint_seconds": (20, "what a checkpoint takes, at most"),
}


def define(values: flags.FlagValues) -> None:
    """The flags of a manifest."""
    command.define(values, str, TEXTS)
    for name, (default, meaning) in NUMBERS.items():
        command.define(values, int, {name: meaning}, default)
    command.define(values, bool, {"dry_run": "print it, and write no --output"})


def mount(given: flags.FlagValues, folder: pathlib.Path, flag: str) -> str:
    """Where the volume is, which must hold the folder."""
    if not folder.is_absolute():
        raise UsageError(
            f"{flag}: expected a path in the pods, from the root, as /studies/mine; "
            f"got {folder}"
        )
    place = pathlib.Path(given.mount or pathlib.Path(*folder.parts[:2]))
    if not place.is_absolute() or place == pathlib.Path("/"):
        raise UsageError(f"--mount: expected a path from the root, got {place}")
    if place not in folder.parents:
        raise UsageError(f"{flag}: expected a folder in --mount={place}, got {folder}")
    return str(place)


def resources(given: flags.FlagValues) -> dict[str, str]:
    """What a pod asks for."""
    if given.gpus is not None and given.tpu is not None:
        raise UsageError("expected one of --gpus and --tpu, got both")
    if (given.tpu is None) != (given.topology is None):
        raise UsageError("expected --tpu and --topology together, got one of them")
    text.whole("--gpus", given.gpus, 1)
    text.whole("--chips", given.chips, 1)
    found = {
        "nvidia.com/gpu": given.gpus,
        "google.com/tpu": given.chips if given.tpu is not None else None,
        "cpu": given.cpus,
        "memory": given.memory,
    }
    for name in ("cpu", "memory"):
        asked = found[name]
        if asked is not None and not _AMOUNT.fullmatch(asked):
            raise UsageError(
                f"--{name}{'s' * (name == 'cpu')}: expected an amount as Kubernetes "
                f"writes it, as 8, 500m or 32Gi; got {asked}"
            )
    return {name: str(amount) for name, amount in found.items() if amount is not None}


def select(given: flags.FlagValues) -> dict[str, str]:
    """The labels of the nodes that may have it."""
    found = {
        "cloud.google.com/gke-tpu-accelerator": given.tpu,
        "cloud.google.com/gke-tpu-topology": given.topology,
    }
    labels = {} if given.select is None else text.pairs("--select", given.select)
    return {name: x for name, x in found.items() if x is not None} | labels


def env(given: flags.FlagValues) -> dict[str, str]:
    """Its variables: where there is no accelerator it fails, and trains on no CPU."""
    platform: dict[str, str] = {}
    if given.gpus is not None or given.tpu is not None:
        platform = {"JAX_PLATFORMS": "cuda" if given.tpu is None else "tpu,cpu"}
    return platform | ({} if given.env is None else text.pairs("--env", given.env))


def hosts(given: flags.FlagValues) -> int:
    """How many hosts a slice of TPUs has."""
    if not re.fullmatch(r"\d+(x\d+){1,2}", given.topology or ""):
        raise UsageError(f"--topology: expected as 2x4 or 2x2x2, got {given.topology}")
    return jobset.hosts(given.topology, text.whole("--chips", given.chips, 1) or 1)


def needed(given: flags.FlagValues, name: str) -> Any:
    """The value of a flag that must be given."""
    if not given[name].value:
        raise UsageError(f"--{name}: expected {TEXTS[name]}; got none")
    return given[name].value
