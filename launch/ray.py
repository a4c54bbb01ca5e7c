"""Runs a study on a cluster of Ray, by tasks that share its trials.

    python -m launch.ray --flagfile=study.flags --address=auto
    python -m launch.ray --flagfile=study.flags --address=ray://head:10001 \
        --workers=8 --gpus=1 --cpus=4 --working_dir=none
    ray job submit --address=http://head:8265 --working-dir=. -- \
        python -m launch.ray --flagfile=study.flags --folder=/shared/digits

A task trains one cohort of trials as one program, on a node that has what it asks for;
new ones are given out until no trial is left. A task that is lost with its node is
given again and goes on from the last checkpoint. All nodes must see the study's folder
under one name; the code is sent to them, or lies there, too (`--working_dir=none`).
Run the same command again, here or as a job, to go on or to add workers: the folder
decides who does what. Ctrl-C (or SIGTERM) ends the tasks, which save first; exit code
75. Exit codes are those of launch.local.
"""

import json
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import launches
from launch import plan as places
from launch import ray_cluster as cluster
from launch import ray_nodes
from launch import ray_options
from launch import ray_work
from launch.launches import Launch


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those that concern Ray."""
    launches.define(values)
    ray_options.define(values)


class Tasks(NamedTuple):
    """What is given out: tasks that are all alike."""

    need: ray_options.Need
    env: Mapping[str, str]
    """What a worker's environment has beside that of its node."""
    cohorts: int
    """That each trains."""
    workers: int | None
    """How many at a time; None: as many as there is room for."""

    def words(self, launch: Launch) -> list[str]:
        """The flags of `launch.worker`."""
        return launches.worker(
            launch,
            workers=self.workers or 1,
            devices=ray_options.devices(self.need),
            # What is tried again is not left: a task that ends early would forget it.
            cohorts=None if launch.plan.study.retry else self.cohorts,
        )


def main(argv: Sequence[str]) -> int:
    """Checks the flags and the nodes, gives out tasks; prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    study = places.read(given)
    folder = study.folder.absolute()
    study, asked = study._replace(folder=folder), ray_options.read(given)
    ships = ray_options.environment(given.working_dir, os.environ, folder)
    address = given.address or os.environ.get("RAY_ADDRESS") or "auto"
    ray_options.host_and_port(address)
    tasks = Tasks(
        asked,
        ray_options.variables(asked, os.environ, folder),
        text.whole("--cohorts", given.cohorts, 1) or 1,
        text.whole("--workers", given.workers, 1),
    )
    if given.dry_run:
        several = tasks.workers or 1
        tell(launches.begin(study, "ray", dry_run=True, workers=several), tasks, ships)
        return 0
    cluster.connect(address, ships)
    try:
        there = ray_nodes.nodes()
        fit = [node for node in there if ray_options.room(asked, node.has)]
        if not fit and not given.autoscale:
            raise UsageError(
                f"{ray_nodes.lacks(asked, there)}: no worker would ever run"
            )
        holds = sum(ray_options.room(asked, node.has) for node in fit)
        workers = tasks.workers or holds or 1
        launch = launches.begin(study, "ray", workers=workers)
        return run(launch, tasks._replace(workers=workers), fit)
    finally:
        cluster.leave()


def run(launch: Launch, tasks: Tasks, there: Sequence[ray_nodes.Node]) -> int:
    """Looks at the nodes, runs the workers, and shows what came of it."""
    study, workers = launch.plan.study, tasks.workers or 1
    folder, words = study.folder, tasks.words(launch)
    if not study.retry and not outcome.undone(launch.plan, hw.sweeps.read(folder)):
        return launches.end(launch, lambda: 0)
    try:
        bare = launches.worker(launch, workers=workers)
        ray_nodes.check(bare, tasks.env, tasks.need, there)
    except BaseException:
        launches.forget(launch)
        raise
    (folder / "logs").mkdir(exist_ok=True)
    options = tasks.need.options() | {"name": f"headwise {folder.name}"}
    options |= {"scheduling_strategy": "SPREAD"}

    def submit(number: int) -> Any:
        log = folder / "logs" / f"ray-{launch.token}-worker{number}.txt"
        return cluster.submit(words, log, tasks.env, options)

    several = "1 worker" if workers == 1 else f"{workers} workers"
    on = "1 node" if len(there) == 1 else f"{len(there)} nodes"
    print(f"{several} on {on}; python -m launch.status {folder}", flush=True)
    return launches.end(launch, lambda: ray_work.work(launch, workers, submit))


def tell(launch: Launch, tasks: Tasks, ships: Mapping[str, Any]) -> None:
    """What `--dry_run` prints: Ray's own part, then the command of a task."""
    print("# runtime_env", json.dumps(ships))
    print("# each task", json.dumps(tasks.need.options()))
    if tasks.workers is None:
        print("# --workers: as many as the cluster has room for; 1 stands for it")
    given = [f"{name}={value}" for name, value in tasks.env.items()]
    python = ["python", "-m", "launch.worker", *tasks.words(launch)]
    launches.tell([["env", *given, *python]], launches.files(launch))


if __name__ == "__main__":
    command.run(main)
