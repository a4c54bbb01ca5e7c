"""Writes what Kubernetes needs to run a study, or one training over hosts.

    python -m launch.manifest --flagfile=study.flags --kind=jobset --image=IMAGE \
        --claim=studies --folder=/studies/digits --workers=8 --gpus=1
    python -m launch.manifest --experiment=brain --balancer=mgda --mesh=data:8 \
        --kind=jobset --image=IMAGE --claim=studies --workdir=/studies/brain --hosts=2 \
        --gpus=4
    python -m launch.manifest --flagfile=study.flags --kind=xpk --cluster=CLUSTER \
        --device=v5litepod-4 --image=IMAGE --claim=STORAGE --folder=/studies/digits \
        --workers=8 --tpu=tpu-v5-lite-podslice --topology=2x2

jobset is a JobSet (jobset.x-k8s.io/v1alpha2), xpk a command that makes one on GKE. The
image holds a checkout with what it needs installed; the claim is of a volume that all
pods may write (ReadWriteMany), mounted at --mount. Nothing is sent anywhere.
"""

import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import yaml
from absl import flags

from experiments.harness import command
from experiments.harness import plan as plans
from experiments.harness import request as requests
from experiments.harness import study as studies
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import jobset
from launch import peer
from launch import plan as places
from launch.jobset import Pods

KINDS = ("jobset", "xpk")
_AMOUNT = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")
WAIT = 1800
"""Seconds for pods to find each other: nodes are made, images come."""
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
    for name, meaning in TEXTS.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    for name, (default, meaning) in NUMBERS.items():
        flags.DEFINE_integer(name, default, meaning, flag_values=values)
    dry = "print it, and write no --output"
    flags.DEFINE_bool("dry_run", False, dry, flag_values=values)


def define_study(values: flags.FlagValues) -> None:
    """Those, and the flags of a study."""
    studies.define(values)
    define(values)
    flags.DEFINE_integer("workers", None, "pods of a study", flag_values=values)


def define_training(values: flags.FlagValues) -> None:
    """Those, and the flags of a run."""
    requests.define(values)
    define(values)


def main(argv: Sequence[str]) -> int:
    """Checks the flags; prints or writes the text."""
    together = command.gives(argv, "mesh")
    made = define_training if together else define_study
    given = command.parse(argv, made, __doc__)
    text.choice("--kind", KINDS, given.kind)
    pods = training(given) if together else study(given)
    if given.kind == "jobset":
        for name in ("cluster", "device"):
            if given[name].present:
                raise UsageError(f"--{name}: goes with --kind=xpk")
        written = yaml.safe_dump(jobset.jobset(pods), sort_keys=False)
    else:
        words = jobset.xpk(pods, _needed(given, "cluster"), _needed(given, "device"))
        written = jobset.shell(words) + "\n"
    if given.output is None or given.dry_run:
        print(written, end="")
    else:
        pathlib.Path(given.output).write_text(written, encoding="utf-8")
    return 0


def study(given: flags.FlagValues) -> Pods:
    """Workers that share a study, each on a host of its own."""
    asked = places.read(given)
    if asked.design is not None:
        raise UsageError(
            f"--design: the pods do not see {asked.design}: put it into the volume and "
            "launch the study there, or give --weights"
        )
    if asked.verify is not None:
        raise UsageError("--verify: goes with launch.local, and with --sweep")
    plans.make(asked)
    for name in ("hosts", "slices"):
        if given[name].present:
            raise UsageError(f"--{name}: goes with --mesh; a study has --workers")
    workers = text.whole("--workers", given.workers, 1) or 1
    if given.topology is not None and (n := _hosts(given)) > 1:
        raise UsageError(
            f"--topology: a worker of a study has one host; {given.topology} is a "
            f"slice of {n}, whose chips work together alone (give --mesh, or a smaller "
            "slice)"
        )
    words = [*studies.words(asked), f"--folder={asked.folder}", f"--workers={workers}"]
    words += ["--retry"] * asked.retry + ["--stop_on_failure"] * asked.stop_on_failure
    return _pods(given, words, asked.folder, "--folder", workers)._replace(
        stop_on_failure=asked.stop_on_failure
    )


def training(given: flags.FlagValues) -> Pods:
    """Processes that train one model."""
    words = peer.of_run(given)
    request = requests.read(["main", *words])
    if given.workdir is None:
        raise UsageError("--workdir: expected a folder of the volume, got none")
    if given.tpu is None:
        count = text.whole("--hosts", given.hosts, 1)
        if count is None:
            raise UsageError("--hosts: expected how many hosts train, got none")
    elif given.hosts is not None:
        raise UsageError("--hosts: TPUs have as many as their --topology says: drop it")
    else:
        count = _hosts(given)
    slices = text.whole("--slices", given.slices, 1) or 1
    if slices > 1 and given.tpu is None:
        raise UsageError("--slices: goes with --tpu")
    words += [f"--timeout={WAIT}"]
    pods = _pods(given, words, request.workdir, "--workdir", count)
    each = given.chips if given.tpu is not None else given.gpus or 1
    there, asked = slices * count * each, math.prod((request.mesh or {}).values())
    if asked != there:
        raise UsageError(
            f"--mesh: expected all devices, {slices * count} hosts of {each}, which "
            f"are {there}; got {text.mesh_text(request.mesh)}"
        )
    return pods._replace(together=True, slices=slices)


def _pods(
    given: flags.FlagValues,
    words: list[str],
    folder: pathlib.Path,
    flag: str,
    count: int,
) -> Pods:
    """What both have in common."""
    for limit in ("max_restarts", "chunk_seconds", "checkpoint_seconds"):
        text.whole(f"--{limit}", given[limit].value, 0)
    experiment = pathlib.Path(given.experiment).stem
    name = given.name or re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise UsageError(
            "--name: expected at most 40 small letters, digits and -, first a letter "
            f"(Kubernetes makes host names of it), got {name!r}"
        )
    return Pods(
        name=name,
        image=_needed(given, "image"),
        command=["python", "-m", "launch.multihost", *words],
        number=count,
        together=False,
        claim=_needed(given, "claim"),
        mount=_mount(given, folder, flag),
        resources=_resources(given),
        select=_select(given),
        env=_env(given),
        grace=jobset.grace(given.chunk_seconds, given.checkpoint_seconds),
        restarts=given.max_restarts,
        directory=given.directory,
        queue=given.queue,
    )


def _mount(given: flags.FlagValues, folder: pathlib.Path, flag: str) -> str:
    """Where the volume is, which must hold the folder."""
    if not folder.is_absolute():
        raise UsageError(
            f"{flag}: expected a path in the pods, from the root, as /studies/mine; "
            f"got {folder}"
        )
    mount = pathlib.Path(given.mount or folder.parts[1 if len(folder.parts) > 1 else 0])
    if given.mount is None:
        mount = pathlib.Path("/") / mount
    if not mount.is_absolute() or mount == pathlib.Path("/"):
        raise UsageError(f"--mount: expected a path from the root, got {mount}")
    if mount not in folder.parents:
        raise UsageError(f"{flag}: expected a folder in --mount={mount}, got {folder}")
    return str(mount)


def _resources(given: flags.FlagValues) -> dict[str, str]:
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


def _select(given: flags.FlagValues) -> dict[str, str]:
    found = {
        "cloud.google.com/gke-tpu-accelerator": given.tpu,
        "cloud.google.com/gke-tpu-topology": given.topology,
    }
    labels = {} if given.select is None else text.pairs("--select", given.select)
    return {name: x for name, x in found.items() if x is not None} | labels


def _env(given: flags.FlagValues) -> dict[str, str]:
    """A pod that finds no accelerator fails, rather than to train on its CPU."""
    platform: dict[str, str] = {}
    if given.gpus is not None or given.tpu is not None:
        platform = {"JAX_PLATFORMS": "cuda" if given.tpu is None else "tpu,cpu"}
    return platform | ({} if given.env is None else text.pairs("--env", given.env))


def _hosts(given: flags.FlagValues) -> int:
    if not re.fullmatch(r"\d+(x\d+){1,2}", given.topology or ""):
        raise UsageError(f"--topology: expected as 2x4 or 2x2x2, got {given.topology}")
    return jobset.hosts(given.topology, text.whole("--chips", given.chips, 1) or 1)


def _needed(given: flags.FlagValues, name: str) -> Any:
    if not given[name].value:
        raise UsageError(f"--{name}: expected {TEXTS[name]}; got none")
    return given[name].value


if __name__ == "__main__":
    command.run(main)
