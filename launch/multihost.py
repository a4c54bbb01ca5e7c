"""Runs a study, or one training, on several hosts: started once a host, by anything.

    srun python -m launch.multihost --flagfile=study.flags
    mpirun python -m launch.multihost --experiment=digits --balancers=mgda --seeds=0:9
    srun python -m launch.multihost --experiment=brain --balancer=mgda --mesh=data:4
    python -m launch.multihost --experiment=brain --mesh=data:4 \
        --coordinator=node1:1234 --processes=2 --process=0      # by hand, on each host
    python -m launch.multihost --experiment=digits --mesh=data:2 --local=2   # to try it

A study is shared by independent workers: each host trains trials on its own devices,
and a host that is lost costs what it was training. With --mesh all hosts train one
model together (jax.distributed): the processes find each other by what SLURM, Open MPI,
Kubernetes or a TPU says, or by --coordinator; one that fails ends all. An interrupt of
any of them saves on all. Exit codes: 0 done; 1 failed; 2 wrong usage, or the others
were not found (one line); 75 interrupted, or another process is gone: the same command
goes on.
"""

import math
import os
import sys
from collections.abc import Sequence

import jax
from absl import flags

from experiments.harness import command
from experiments.harness import request as requests
from experiments.harness import study as studies
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import launches
from launch import local
from launch import peer
from launch import plan as places
from launch import sites
from launch import training

ALONE = ("coordinator", "process", "timeout", "one_training")
"""Flags that only processes have which train together."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study over hosts."""
    launches.define(values)
    _define_both(values)
    share = "how many share the study; else as many as the site says it has started"
    command.define(values, int, {"workers": share})


def define_training(values: flags.FlagValues) -> None:
    """The flags of one training over hosts: those of a run, and how it is joined."""
    requests.define(values)
    peer.joins(values)
    _define_both(values)
    one = "train one model on all hosts, as --mesh says"
    command.define(values, bool, {"one_training": one}, True)
    dry = "print what this process would do; write nothing, start nothing"
    command.define(values, bool, {"dry_run": dry})


def _define_both(values: flags.FlagValues) -> None:
    numbers = {
        "local": "start so many processes on this machine itself",
        "devices": "of each worker, or of each process of --local: GPUs, or as many as "
        "its CPUs shall look like; or 1",
    }
    command.define(values, int, numbers)


def main(argv: Sequence[str]) -> int:
    """Trains with the other hosts, or shares a study with them."""
    if command.gives(argv, "mesh") or command.gives(argv, "one_training"):
        return train_together(argv)
    for name in ALONE:
        if command.gives(argv, name):
            raise UsageError(f"--{name}: goes with --mesh; workers need no others")
    return share(argv)


def train_together(argv: Sequence[str]) -> int:
    """One training over all hosts."""
    mine = flags.FlagValues()
    define_training(mine)
    of_studies = flags.FlagValues()
    studies.define(of_studies)
    foreign = [f"--{n}" for n in of_studies if n not in mine and command.gives(argv, n)]
    if command.gives(argv, "sweep"):
        foreign.append("--sweep")
    if foreign:
        raise UsageError(
            f"--mesh: trains one model on all hosts, {foreign[0]} is of a study: its "
            "trials go to hosts as independent workers (drop --mesh), or run one after "
            "the other on one host (experiments.main --sweep --mesh)"
        )
    given = command.parse(argv, define_training, __doc__)
    if given.mesh is None:
        raise UsageError("--one_training: expected --mesh, as data:4, got none")
    run = peer.of_run(given)
    request = requests.read(["main", *run])
    site = sites.look(os.environ)
    joins, envs = _processes(given, site)
    if given.dry_run:
        print(_who(site, joins[0], given.local))
        here = training.commands(run, joins, envs, request.workdir)
        launches.tell(map(local.words, here))
        return 0
    return training.train(run, joins, envs)


def _processes(
    given: flags.FlagValues, site: sites.Site | None
) -> tuple[list[peer.Join], list[dict[str, str]]]:
    """How each process of this host finds the others, and what it runs on."""
    join, dealt, env = peer.read(given), [places.Place((), {})], os.environ
    joins, gpus = [join], places.gpus(env, local.gpus_here())
    if given.local is not None:
        text.whole("--local", given.local, 1)
        if join.coordinator is not None:
            raise UsageError("--local: starts all processes: drop --coordinator")
        joins = training.local(given.local, join.timeout)
        dealt = places.places(given.local, given.devices, (), gpus, env)
    elif given.devices is not None:
        raise UsageError("--devices: goes with --local; else a process has its host's")
    elif join.coordinator is None:
        version = tuple(int(n) for n in jax.__version__.split(".")[:2])
        sites.check(env, site, version)
        joins = [join._replace(devices=sites.device_ids(gpus, site, env))]
    return joins, [training.environment(env, place.env) for place in dealt]


def _who(site: sites.Site | None, join: peer.Join, local: int | None) -> str:
    """Which process this is, and who says so."""
    if local is not None:
        return f"{local} processes on this machine, which meet at {join.coordinator}"
    if join.coordinator is not None:
        where = f"the coordinator is {join.coordinator}"
        return f"process {join.process} of {join.processes}, by flags; {where}"
    if site is None:
        return "JAX asks the metadata of a TPU who is there"
    of = "?" if site.processes is None else site.processes
    which = "?" if site.process is None else site.process
    return f"process {which} of {of}, by {site.engine}; JAX finds the coordinator"


def share(argv: Sequence[str]) -> int:
    """A study whose trials the workers of all hosts share."""
    given = command.parse(argv, define, __doc__)
    study = places.read(given)
    site, env = sites.look(os.environ), os.environ
    sites.apart(env, site)
    text.whole("--workers", given.workers, 1)
    text.whole("--local", given.local, 1)
    count, gpus = 1, places.gpus(env, local.gpus_here())
    if site is not None and given.local is None:
        count, gpus = site.processes or 1, sites.own(gpus, site, env)
    dealt = places.places(given.local, given.devices, local.cpus_here(), gpus, env)
    total = given.workers or count * len(dealt)
    launch = launches.begin(study, "multihost", dry_run=given.dry_run)
    here = local.workers(launch, dealt, given.devices, total)
    if given.dry_run:
        launches.tell(map(local.words, here), launches.files(launch))
        return 0
    print(f"{len(here)} of {total} workers; python -m launch.status {study.folder}")
    sys.stdout.flush()

    def work() -> int:
        return local.work(launch, here, grace=math.inf)  # the engine sets an end

    return launches.end(launch, work, alone=False)


if __name__ == "__main__":
    command.run(main)
