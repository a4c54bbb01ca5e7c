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
from launch import pod_flags
from launch import xpk
from launch.jobset import Pods

KINDS = ("jobset", "xpk")
WAIT = 1800
"""Seconds for pods to find each other: nodes are made, images come."""


def define_study(values: flags.FlagValues) -> None:
    """The flags of a study, and of its pods."""
    studies.define(values)
    pod_flags.define(values)
    command.define(values, int, {"workers": "pods of a study"})


def define_training(values: flags.FlagValues) -> None:
    """The flags of a run, and of its pods."""
    requests.define(values)
    pod_flags.define(values)


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
        cluster, device = (pod_flags.needed(given, n) for n in ("cluster", "device"))
        words = xpk.create(pods, cluster, device)
        written = xpk.shell(words) + "\n"
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
    if given.topology is not None and (n := pod_flags.hosts(given)) > 1:
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
        count = pod_flags.hosts(given)
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
        image=pod_flags.needed(given, "image"),
        command=["python", "-m", "launch.multihost", *words],
        number=count,
        together=False,
        claim=pod_flags.needed(given, "claim"),
        mount=pod_flags.mount(given, folder, flag),
        resources=pod_flags.resources(given),
        select=pod_flags.select(given),
        env=pod_flags.env(given),
        grace=jobset.grace(given.chunk_seconds, given.checkpoint_seconds),
        restarts=given.max_restarts,
        directory=given.directory,
        queue=given.queue,
    )


if __name__ == "__main__":
    command.run(main)
