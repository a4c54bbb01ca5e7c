"""What a site says of a process that it started: how many there are, which one it is.

Pure: SLURM, Open MPI, a TPU or Kubernetes put it into the environment. JAX reads the
same variables in `jax.distributed.initialize()`; what would lead it astray is said here
before, as one line.
"""

import importlib.util
import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from experiments.harness.text import UsageError

BY_HAND = (
    "start every process with --coordinator=HOST:PORT --processes=N --process=I, or "
    "try it on this machine with --local=N"
)


class Site(NamedTuple):
    """Where one of several processes is."""

    engine: str
    """Who started it."""
    processes: int | None
    """How many there are; None where the site does not say."""
    process: int | None
    """Which one this is, from 0."""
    local: int = 0
    """Which one of those on its host."""
    on_host: int = 1
    """How many are on its host."""


def look(env: Mapping[str, str]) -> Site | None:
    """What the environment says; None: nobody started several processes.

    In the order in which JAX looks.

    Raises:
        UsageError: a variable that is no number.

    Example:
        >>> look({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"})
        Site(engine='Open MPI', processes=4, process=2, local=0, on_host=1)
        >>> look({"HOME": "/root"})
    """
    if "OMPI_COMM_WORLD_SIZE" in env:
        names = ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
        size, rank, local, on_host = (
            _number(env, f"OMPI_COMM_WORLD_{name}") for name in names
        )
        return Site("Open MPI", size, rank, local or 0, on_host or 1)
    if "SLURM_JOB_ID" in env and "SLURM_STEP_NODELIST" in env:
        size, rank, local, node = (
            _number(env, f"SLURM_{name}")
            for name in ("NTASKS", "PROCID", "LOCALID", "NODEID")
        )
        tasks = _tasks(env.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        on_host = tasks[min(node or 0, len(tasks) - 1)]
        return Site("SLURM", size, rank, local or 0, on_host)
    hosts = env.get("TPU_PROCESS_ADDRESSES") or env.get("TPU_WORKER_HOSTNAMES")
    if hosts:
        slices = _number(env, "MEGASCALE_NUM_SLICES") or 1
        in_slice, mine = len(hosts.split(",")), _number(env, "TPU_WORKER_ID")
        before = (_number(env, "MEGASCALE_SLICE_ID") or 0) * in_slice
        return Site("TPU", slices * in_slice, None if mine is None else before + mine)
    if "KUBERNETES_SERVICE_HOST" in env:
        return Site("Kubernetes", None, _number(env, "JOB_COMPLETION_INDEX"))
    return None


def check(
    env: Mapping[str, str],
    site: Site | None,
    jax_version: tuple[int, ...],
    installed: Callable[[str], bool] = lambda name: (
        importlib.util.find_spec(name) is not None
    ),
) -> None:
    """A UsageError where `jax.distributed.initialize()` would not do what is meant.

    Args:
        env: of this process.
        site: of `look`.
        jax_version: as (0, 10, 2).
        installed: whether a package is.
    """
    in_step(env, site)
    engine = None if site is None else site.engine
    if engine is None and not installed("libtpu"):
        raise UsageError(
            "--mesh: expected processes that SLURM, Open MPI, Kubernetes or a TPU "
            f"started, found no sign of one: {BY_HAND}"
        )
    if engine == "SLURM":
        _check_slurm(env)
    newer = jax_version >= (0, 11)
    by_name = "OMPI_MCA_orte_hnp_uri" in env
    if engine == "Open MPI" and not (by_name or (newer and installed("mpi4py"))):
        raise UsageError(
            "--mesh: Open MPI 5 does not tell JAX where its coordinator is"
            + (" unless mpi4py is installed" if newer else "")
            + ": give --coordinator=HOST:PORT --processes=$OMPI_COMM_WORLD_SIZE "
            "--process=$OMPI_COMM_WORLD_RANK"
        )
    if engine == "Kubernetes" and not installed("kubernetes"):
        raise UsageError(
            "--mesh: in Kubernetes JAX asks the cluster who is there, by the package "
            "kubernetes, which is not installed: pip install 'jax[k8s]', or "
            "--coordinator=HOST:PORT --processes=N --process=$JOB_COMPLETION_INDEX, as "
            "launch.manifest writes"
        )


def apart(env: Mapping[str, str], site: Site | None) -> None:
    """A UsageError where processes cannot work independently of each other."""
    in_step(env, site)
    hosts = site.processes if site is not None and site.engine == "TPU" else 1
    slices = _number(env, "MEGASCALE_NUM_SLICES") or 1
    if (hosts or 1) > slices and "TPU_PROCESS_BOUNDS" not in env:
        raise UsageError(
            "the workers of a study are independent, but the hosts of a TPU slice wait "
            "for each other: take slices of one host, or make each host one of its own "
            "(TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1 where it has "
            "4 chips), or train one model with --mesh"
        )


def in_step(env: Mapping[str, str], site: Site | None) -> None:
    """A UsageError for one process in a SLURM job of several nodes or tasks."""
    counts = [env.get(f"SLURM_{name}", "1") for name in ("JOB_NUM_NODES", "NTASKS")]
    several = any(count != "1" for count in counts)
    if site is None and "SLURM_JOB_ID" in env and several:
        raise UsageError(
            f"job {env['SLURM_JOB_ID']} of SLURM has {counts[0]} nodes and {counts[1]} "
            "tasks, but this process is in no step of it: start it by srun (srun "
            "python -m launch.multihost ...), which starts one on each"
        )


def _check_slurm(env: Mapping[str, str]) -> None:
    missing = [
        name
        for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
        if name not in env
    ]
    if missing:
        raise UsageError(f"--mesh: SLURM did not set {', '.join(missing)}: use srun")
    job, step = env["SLURM_NTASKS"], env.get("SLURM_STEP_NUM_TASKS")
    if step is not None and step != job:
        raise UsageError(
            f"--mesh: SLURM_NTASKS says {job} processes and SLURM_STEP_NUM_TASKS says "
            f"{step}: JAX would wait for {job}. Give srun --ntasks={step} and do not "
            "set SLURM_NTASKS"
        )


def own(names: Sequence[str], site: Site | None, env: Mapping[str, str]) -> list[str]:
    """The devices of this process, of those that it sees.

    A task that sees fewer than there are tasks on its host sees its own alone: so
    `--gpus-per-task` has it. Else they are dealt to the processes of the host.

    Args:
        names: of the devices that are visible.
        site: of `look`.
        env: of this process.

    Example:
        >>> own(["0", "1", "2", "3"], Site("SLURM", 4, 3, local=1, on_host=2), {})
        ['2', '3']
        >>> own(["3"], Site("SLURM", 4, 3, local=3, on_host=4), {})
        ['3']
    """
    alone = site is None or site.on_host == 1 or len(names) < site.on_host
    if site is None or alone or env.get("SLURM_GPUS_PER_TASK"):
        return list(names)
    each = len(names) // site.on_host
    return list(names[site.local * each : (site.local + 1) * each])


def device_ids(
    names: Sequence[str], site: Site | None, env: Mapping[str, str]
) -> list[int] | None:
    """`local_device_ids` of `jax.distributed.initialize`: places among `names`.

    JAX takes one a process under SLURM and Open MPI, the one with the number of the
    process on its host: one process a node would use the first GPU alone, and a GPU
    that SLURM has renumbered is not found.

    Returns:
        None where JAX is to decide: no GPU, or `JAX_LOCAL_DEVICE_IDS` says it.

    Example:
        >>> device_ids(["4", "5"], Site("SLURM", 2, 1), {})
        [0, 1]
    """
    if not names or env.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    return [list(names).index(name) for name in own(names, site, env)]


def _number(env: Mapping[str, str], name: str) -> int | None:
    if name not in env:
        return None
    try:
        return int(env[name])
    except ValueError:
        raise UsageError(f"{name}: expected a number, got {env[name]!r}") from None


def _tasks(text: str) -> list[int]:
    """Tasks of each node: `2(x3),1` as [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(n) for n, times in found for _ in range(int(times or 1))] or [1]
