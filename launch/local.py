"""Runs a study on this machine, by workers that share its trials.

    python -m launch.local --experiment=digits --weights=left=1,right=0.1:0.3:1 \
        --seeds=0:2 --folder=studies/digits_grid
    python -m launch.local --experiment=digits --balancers=mgda,cagrad:c=0.4 --seeds=0:5
    python -m launch.local --flagfile=study.flags --workers=2

A worker trains many trials as one program; with GPUs there is one a GPU. Run the same
command again to go on: finished trials are kept, interrupted ones resume from their
checkpoint. More launchers may work in the same folder at the same time. Ctrl-C (or
SIGTERM, or a closed terminal) ends the workers, which save first, and shows what there
is; exit code 75. `python -m launch.status FOLDER` shows a study from elsewhere.
"""

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from collections.abc import Sequence

from absl import flags

import headwise as hw
from experiments.harness import after
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import signals
from experiments.harness.text import UsageError
from launch import launches
from launch import plan as places
from launch import processes
from launch.launches import Launch

TRIES = 3
"""How often workers that die are started again while no trial ends in between."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    launches.define(values)
    numbers = {
        "workers": "processes that share the trials; else one, or one a GPU",
        "devices": "of each worker: GPUs, or as many as its CPUs shall look like; or 1",
        "processes": "the former name of --workers",
    }
    command.define(values, int, numbers)


def workers(
    launch: Launch,
    dealt: Sequence[places.Place],
    devices: int | None,
    total: int | None = None,
) -> list[processes.Command]:
    """The worker of each place. What it prints goes to `logs/`.

    Args:
        launch: of `launches.begin`.
        dealt: a place for each worker.
        devices: that each must find.
        total: how many share the study; None: these.
    """
    folder = launch.plan.study.folder.absolute()
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    found = []
    for i, place in enumerate(dealt):
        log = folder / "logs" / f"{os.uname().nodename}-{os.getpid()}-worker{i}.txt"
        words = launches.worker(
            launch,
            workers=total or len(dealt),
            workers_here=None if total is None else len(dealt),
            devices=devices,
            cpus=place.cpus,
        )
        env = {n: x for n, x in cache.items() if n not in os.environ} | place.env
        one = processes.Command(f"worker {i}", "launch.worker", words, log, env)
        found.append(one)
    return found


def run(
    commands: Sequence[processes.Command],
    meanwhile: Callable[[], None] = lambda: None,
    grace: float | None = None,
) -> list[tuple[str, int, pathlib.Path]]:
    """Starts the workers and waits for them; name, exit code and log of each.

    An interrupt, or an error here, ends all. With `grace` workers are warned of an
    interrupt (SIGUSR1), and have so many seconds to save.
    """
    logs = {one.name: one.log for one in commands}
    for log in logs.values():
        log.parent.mkdir(exist_ok=True)
    ask = signal.SIGTERM if grace is None else signals.WARNING
    count, env = len(commands), os.environ
    ends = processes.run(commands, count, env, meanwhile, ask=ask, grace=grace)
    with contextlib.closing(ends):
        return [(one, code, logs[one]) for one, code in ends]


def work(
    launch: Launch, commands: Sequence[processes.Command], grace: float | None = None
) -> int:
    """Runs the workers until all is done; the worst of their exit codes.

    Workers that are killed are started again, unless it leads to nothing. `grace` is
    that of `run`.
    """
    tries, codes, plan = TRIES, [0], launch.plan
    left = _left(launch)
    with hw.sweeps.watch(plan.study.folder, trials=len(plan.trials)) as look:
        while tries:
            ends = run(commands, look, grace)
            codes = [code for _, code, _ in ends]
            for who, code, log in ends:
                if code:
                    print(f"{who}: {processes.why(log, code)}", file=sys.stderr)
            before, left = left, _left(launch)
            if not left or min(codes) >= 0:
                break
            tries = TRIES if left < before else tries - 1
    failed = [code for code in codes if code]
    told = left or plan.study.stop_on_failure
    return max(failed, key=_rank) if failed and told else 0


def _left(launch: Launch) -> int:
    records = hw.sweeps.read(launch.plan.study.folder)
    return len(outcome.undone(launch.plan, records))


def _rank(code: int) -> int:
    """Which of several ends is told: wrong usage, an interrupt, any other."""
    return {2: 2, signals.CODE: 1}.get(code, 0)


def main(argv: Sequence[str]) -> int:
    """Checks the flags, runs the trials, prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    if (code := after.asked(given, places.FOLDER)) is not None:
        return code
    study = places.read(given)
    asked = given.workers
    if given.processes is not None:
        if asked is not None:
            raise UsageError("--processes is the former name of --workers: drop it")
        asked = given.processes
    env = os.environ
    there = places.gpus(env, gpus_here())
    dealt = places.places(asked, given.devices, cpus_here(), there, env)
    several, here = len(dealt), not there
    launch = launches.begin(
        study, "local", dry_run=given.dry_run, workers=several, here=here
    )
    commands = workers(launch, dealt, given.devices)
    if given.dry_run:
        launches.tell(map(words, commands), launches.files(launch))
        return 0
    count = "1 worker" if several == 1 else f"{several} workers"
    print(f"{count}; python -m launch.status {study.folder}", flush=True)
    return launches.end(launch, lambda: work(launch, commands))


def words(command: processes.Command) -> list[str]:
    """A worker as a command line.

    Example:
        >>> log, gpu = pathlib.Path("log"), {"CUDA_VISIBLE_DEVICES": "0"}
        >>> one = processes.Command("w", "launch.worker", ["--study=ab"], log, gpu)
        >>> words(one)[:2], words(one)[3:]
        (['env', 'CUDA_VISIBLE_DEVICES=0'], ['-m', 'launch.worker', '--study=ab'])
    """
    env = [f"{name}={value}" for name, value in command.env.items()]
    python = [sys.executable, "-m", command.module, *command.argv]
    return ["env", *env, *python] if env else python


def cpus_here() -> list[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus_here() -> list[str]:
    """The GPUs of this machine, without a library that would take hold of them."""
    there = pathlib.Path("/dev").glob("nvidia[0-9]*")
    return sorted((path.name.removeprefix("nvidia") for path in there), key=int)


if __name__ == "__main__":
    command.run(main)
