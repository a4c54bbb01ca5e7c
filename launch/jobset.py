"""A study, or one training, as a Kubernetes JobSet. Pure.

JobSet jobset.x-k8s.io/v1alpha2 over indexed Jobs (batch/v1). Exit codes decide: 0 is
done, 2 fails all at once, 75 and whatever ends a process from outside begins again. 1
fails all where one model is trained; in a study it fails that worker, and the others go
on (unless the study is to stop).
"""

import math
import types
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from experiments.harness import signals

PORT = 55527
"""Where process 0 listens: the port that JAX takes in Kubernetes."""
MARGIN = 30
"""Seconds to end beside those of a chunk and a checkpoint."""
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"


class Pods(NamedTuple):
    """What a JobSet is made of: pods that are alike."""

    name: str
    image: str
    command: list[str]
    number: int
    """Pods, of one slice."""
    together: bool
    """Whether they train one model, so that none goes on without the others."""
    claim: str
    """The persistent volume claim that holds the folder."""
    mount: str
    resources: dict[str, str]
    """Of a pod: `nvidia.com/gpu`, `google.com/tpu`, `cpu`, `memory`."""
    select: Mapping[str, str] = types.MappingProxyType({})
    """Labels of nodes."""
    env: Mapping[str, str] = types.MappingProxyType({})
    grace: int = 60
    """Seconds from SIGTERM to SIGKILL."""
    restarts: int = 10
    slices: int = 1
    directory: str | None = None
    """The checkout in the image; None: its working directory."""
    queue: str | None = None
    """Of Kueue."""
    stop_on_failure: bool = False


def grace(chunk: float, checkpoint: float) -> int:
    """Seconds that a pod needs from SIGTERM to its end.

    Example:
        >>> grace(10, 20)
        60
    """
    return math.ceil(chunk + checkpoint) + MARGIN


def jobset(pods: Pods) -> dict[str, Any]:
    """The manifest, as what YAML or JSON holds."""
    meta: dict[str, Any] = {"name": pods.name}
    if pods.queue is not None:
        meta["labels"] = {"kueue.x-k8s.io/queue-name": pods.queue}
    if pods.together and "google.com/tpu" in pods.resources:
        meta["annotations"] = {EXCLUSIVE: "cloud.google.com/gke-nodepool"}
    replicated = {
        "name": _role(pods),
        "replicas": pods.slices,
        "template": {"spec": _job(pods)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": meta,
        "spec": {
            # A headless service of JobSet's own gives every pod a name.
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": _failure(pods),
            "replicatedJobs": [replicated],
        },
    }


def _failure(pods: Pods) -> dict[str, Any]:
    """What happens when a Job fails: one that trains together begins anew, whole."""
    if not pods.together:  # pods begin anew one by one; what fails the Job is final
        return {"maxRestarts": 0}
    final = {
        "name": "final",
        "action": "FailJobSet",
        "onJobFailureReasons": ["PodFailurePolicy"],
    }
    return {
        "maxRestarts": pods.restarts,
        "restartStrategy": "BlockingRecreate",  # the old ones let go of the folder
        "rules": [final],
    }


def _job(pods: Pods) -> dict[str, Any]:
    limit = {"backoffLimit": 0} if pods.together else {}
    return {
        "completionMode": "Indexed",
        "completions": pods.number,
        "parallelism": pods.number,
        **(limit or {"backoffLimitPerIndex": pods.restarts}),
        "podFailurePolicy": {"rules": _rules(pods)},
        "template": {"spec": _pod(pods)},
    }


def _rules(pods: Pods) -> list[dict[str, Any]]:
    """The first that fits a pod that failed counts; none: it counts as a restart."""

    def on(action: str, *codes: int) -> dict[str, Any]:
        values = {"operator": "In", "values": list(codes)}
        return {
            "action": action,
            "onExitCodes": {"containerName": _role(pods)} | values,
        }

    if pods.together:
        return [on("FailJob", 1, 2)]
    ends = [on("FailJob", 1, 2)]
    if not pods.stop_on_failure:
        ends = [on("FailJob", 2), on("FailIndex", 1)]
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    moved = {"action": "Ignore", "onPodConditions": [disrupted]}  # as often as it is
    return [*ends, moved, on("Count", signals.CODE)]


def _pod(pods: Pods) -> dict[str, Any]:
    shared = {"name": "shared", "persistentVolumeClaim": {"claimName": pods.claim}}
    memory = {"name": "shm", "emptyDir": {"medium": "Memory"}}  # NCCL's, between GPUs
    kinds = [name for name in pods.resources if "/" in name]
    spec = {
        "restartPolicy": "Never",  # the Job begins pods again: it sees exit codes
        "terminationGracePeriodSeconds": pods.grace,
        "nodeSelector": dict(pods.select),
        "tolerations": [{"key": kind, "operator": "Exists"} for kind in kinds],
        "containers": [_container(pods)],
        "volumes": [shared, memory],
    }
    return {name: value for name, value in spec.items() if value != {} and value != []}


def _container(pods: Pods) -> dict[str, Any]:
    field = {
        "POD_NAME": "metadata.name",
        "JOBSET_NAME": "metadata.annotations['jobset.sigs.k8s.io/jobset-name']",
        "PROCESS": INDEX,
    }
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in field.items()
    ]
    env += [{"name": name, "value": value} for name, value in pods.env.items()]
    limits = {n: x for n, x in pods.resources.items() if n != "cpu"}
    there = {"workingDir": pods.directory} if pods.directory else {}
    return {
        "name": _role(pods),
        "image": pods.image,
        "command": [*pods.command, *join(pods)],
        **there,
        "env": env,
        "resources": {"requests": dict(pods.resources), "limits": limits},
        "volumeMounts": [
            {"name": "shared", "mountPath": pods.mount},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def join(pods: Pods) -> list[str]:
    """The flags by which pods find each other; TPUs know it by themselves.

    So that no pod has to ask the cluster, which takes a package and a role.
    """
    if not pods.together or "google.com/tpu" in pods.resources:
        return []
    where = f"{pods.name}-{_role(pods)}-0-0.{pods.name}:{PORT}"
    return [
        f"--coordinator={where}",
        f"--processes={pods.number}",
        "--process=$(PROCESS)",
    ]


def _role(pods: Pods) -> str:
    return "process" if pods.together else "worker"


def hosts(topology: str, chips: int) -> int:
    """Hosts of a TPU slice.

    Example:
        >>> hosts("4x4", 4), hosts("2x2x2", 4), hosts("2x2", 4)
        (4, 2, 1)
    """
    return max(math.prod(int(n) for n in topology.split("x")) // chips, 1)
