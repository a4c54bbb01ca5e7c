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

import fnmatch
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import signals
from experiments.harness import text
from experiments.harness.text import UsageError
from launch import launches
from launch import plan as places
from launch import ray_cluster as cluster
from launch.launches import Launch
from launch.ray_cluster import Need

CODE = pathlib.Path(__file__).resolve().parents[1]
"""The checkout."""
TRIES = 3
"""How often in a row a worker may end without any progress of the study."""
PAUSE = 5.0
"""Seconds before it is tried the third time; the second time is at once."""
PERIOD = 0.2
"""Seconds between two looks."""
LEFT_BEHIND = (".?*", "studies", "runs", "docs", "tests", "build", "dist", "*cache*")
"""What workers do not need of a checkout."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    launches.define(values)
    words = {
        "address": "of the cluster: auto, HOST:PORT or ray://HOST:PORT; else what "
        "RAY_ADDRESS says, or auto",
        "memory": "of each worker, as 16G, that Ray keeps count of",
        "resources": "other resources of each worker, as a100=1,disk=0.5",
        "working_dir": "the code that is sent to the nodes; else this checkout; none: "
        "it lies there, under the same name",
    }
    for name, meaning in words.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    count = "tasks at a time; else as many as the cluster has room for"
    flags.DEFINE_integer("workers", None, count, flag_values=values)
    for name, default in (("gpus", 0.0), ("cpus", 1.0)):
        meaning = f"{name.upper()[:3]}s of each worker; Ray keeps count of them"
        flags.DEFINE_float(name, default, meaning, flag_values=values)
    grows = "start though no node has room for a worker: the cluster will grow"
    flags.DEFINE_bool("autoscale", False, grows, flag_values=values)


def need(given: flags.FlagValues) -> Need:
    """What one task asks for.

    Raises:
        UsageError: what no node can have.

    Example:
        >>> values = flags.FlagValues()
        >>> define(values)
        >>> _ = values(["", "--gpus=1", "--cpus=4", "--memory=2G", "--resources=a=1"])
        >>> need(values).options()["memory"] == 2 * 2**30
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


class Try(NamedTuple):
    """A worker that is to be started."""

    number: int
    fruitless: int = 0
    """How many tasks of it in a row, to the last, led to nothing."""
    at: float = 0.0
    before: Mapping[str, int] = {}
    """How far the study was when the task was given out."""


def further(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether a study came further, by two looks of `saved`.

    Example:
        >>> further({"done": 1, "000002": 30}, {"done": 1, "000002": 30})
        False
        >>> further({"done": 1, "000002": 30}, {"done": 2})
        True
    """
    return any(now[name] > before.get(name, 0) for name in now)


def saved(folder: pathlib.Path) -> dict[str, int]:
    """How many trials are done; the last step of each cohort that has a checkpoint."""
    found = {"done": len(list(folder.glob("done/*.json")))}
    for path in folder.glob("ckpt/*.*/*"):
        if path.name.isdecimal():
            cohort = path.parent.name.partition(".")[0]
            found[cohort] = max(found.get(cohort, 0), int(path.name))
    return found


def work(launch: Launch, workers: int, submit: Callable[[int], Any]) -> int:
    """Gives out tasks until no trial is left; the code that tells how it ended.

    Args:
        launch: whose trials.
        workers: how many tasks there are at a time.
        submit: gives out one, of this number; its reference.
    """
    import ray

    plan, flying, last, done = launch.plan, dict[Any, Try](), 0, False
    folder, waiting = plan.study.folder, [Try(number) for number in range(workers)]
    try:
        with hw.sweeps.watch(folder, trials=len(plan.trials)) as look:
            while flying or waiting:
                look()
                now = time.monotonic()
                for one in [one for one in waiting if one.at <= now]:
                    waiting.remove(one)
                    flying[submit(one.number)] = one._replace(before=saved(folder))
                if not flying:
                    time.sleep(PERIOD)
                    continue
                over, _ = ray.wait(list(flying), timeout=PERIOD)
                for ref in over:
                    one, ended = flying.pop(ref), cluster.end(ref)
                    done = done or ended.code == 0
                    if done:  # the others see it, too
                        waiting, last = [], 0
                        continue
                    if ended.code != signals.CODE:
                        who = f"worker {one.number} on {ended.host}"
                        print(f"{who}: {ended.line}", file=sys.stderr)
                    if ended.code in (2, 1 if plan.study.stop_on_failure else 2):
                        return ended.code
                    moved = further(one.before, saved(folder))
                    row = 0 if moved else one.fruitless + 1
                    last = ended.code
                    if row < TRIES:
                        at = time.monotonic() + PAUSE * max(row - 1, 0)
                        waiting.append(Try(one.number, row, at))
    finally:
        cluster.cancel(list(flying))
    return last


def main(argv: Sequence[str]) -> int:
    """Checks the flags and the nodes, gives out tasks; prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    study = places.read(given)
    folder = study.folder.absolute()
    study = study._replace(folder=folder)
    asked, workers = need(given), text.whole("--workers", given.workers, 1)
    ships = environment(given.working_dir, os.environ, folder)
    env = variables(asked, os.environ, folder)
    address = given.address or os.environ.get("RAY_ADDRESS") or "auto"
    cluster.host_and_port(address)
    if given.dry_run:
        tell(launches.begin(study, "ray", dry_run=True), workers, asked, env, ships)
        return 0
    cluster.connect(address, ships)
    try:
        there = cluster.nodes()
        fit = [node for node in there if cluster.room(asked, node.has)]
        if not fit and not given.autoscale:
            raise UsageError(f"{cluster.lacks(asked, there)}: no worker would ever run")
        holds = sum(cluster.room(asked, node.has) for node in fit)
        return run(launches.begin(study, "ray"), workers or holds or 1, asked, env, fit)
    finally:
        cluster.leave()


def run(
    launch: Launch,
    workers: int,
    asked: Need,
    env: Mapping[str, str],
    there: Sequence[cluster.Node],
) -> int:
    """Looks at the nodes, runs the workers, and shows what came of it."""
    folder = launch.plan.study.folder
    words = launches.worker(
        launch, workers=workers, devices=cluster.devices(asked), cohorts=1
    )
    try:
        cluster.check(launches.worker(launch, workers=1), env, asked, there)
    except BaseException:
        launches.forget(launch)
        raise
    (folder / "logs").mkdir(exist_ok=True)
    options = asked.options() | {"name": f"headwise {folder.name}"}
    options |= {"scheduling_strategy": "SPREAD"}

    def submit(number: int) -> Any:
        log = folder / "logs" / f"ray-{launch.token}-worker{number}.txt"
        return cluster.submit(words, log, env, options)

    several = "1 worker" if workers == 1 else f"{workers} workers"
    on = "1 node" if len(there) == 1 else f"{len(there)} nodes"
    print(f"{several} on {on}; python -m launch.status {folder}", flush=True)
    return launches.end(launch, lambda: work(launch, workers, submit))


def tell(
    launch: Launch,
    workers: int | None,
    asked: Need,
    env: Mapping[str, str],
    ships: Mapping[str, Any],
) -> None:
    """What `--dry_run` prints: Ray's own part, then the command of a task."""
    print("# runtime_env", json.dumps(ships))
    print("# each task", json.dumps(asked.options()))
    if workers is None:
        print("# --workers: as many as the cluster has room for; 1 stands for it")
    words = launches.worker(
        launch, workers=workers or 1, devices=cluster.devices(asked), cohorts=1
    )
    given = [f"{name}={value}" for name, value in env.items()]
    python = ["python", "-m", "launch.worker", *words]
    launches.tell([["env", *given, *python]], launches.files(launch))


if __name__ == "__main__":
    command.run(main)
