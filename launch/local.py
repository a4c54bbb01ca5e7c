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

import jax
from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import find
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import signals
from experiments.harness import sweep
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.text import UsageError
from launch import plan as places
from launch import processes

TRIES = 3
"""How often workers that die are started again while no trial ends in between."""


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those of this launcher."""
    places.define(values)
    numbers = {
        "workers": "processes that share the trials; else one, or one a GPU",
        "devices": "of each worker: GPUs, or as many as its CPUs shall look like; or 1",
        "processes": "the former name of --workers",
    }
    for name, meaning in numbers.items():
        flags.DEFINE_integer(name, None, meaning, flag_values=values)


def run(
    plan: Plan,
    name: str,
    dealt: Sequence[places.Place],
    meanwhile: Callable[[], None] = lambda: None,
) -> list[tuple[str, int, pathlib.Path]]:
    """Starts the workers and waits for them; name, exit code and log of each.

    What a worker prints is in `logs/`. An interrupt, or an error here, ends all.
    """
    folder = plan.study.folder
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder.absolute() / "cache")}
    commands = []
    for i, place in enumerate(dealt):
        log = logs / f"{os.uname().nodename}-{os.getpid()}-worker{i}.txt"
        words = places.worker(plan.study, name, place, len(dealt))
        one = processes.Command(f"worker {i}", "launch.worker", words, log, place.env)
        commands.append(one)
    by_name = {one.name: one.log for one in commands}
    env = cache | dict(os.environ)
    ends = processes.run(commands, len(commands), env, meanwhile)
    with contextlib.closing(ends):
        return [(one, code, by_name[one]) for one, code in ends]


def work(plan: Plan, name: str, dealt: Sequence[places.Place]) -> int:
    """Runs the workers until all is done; the worst of their exit codes.

    Workers that are killed are started again, unless it leads to nothing.
    """
    tries, codes = TRIES, [0]
    left = _left(plan)
    with hw.sweeps.watch(plan.study.folder, trials=len(plan.trials)) as look:
        while tries:
            ends = run(plan, name, dealt, look)
            codes = [code for _, code, _ in ends]
            for who, code, log in ends:
                if code:
                    print(f"{who}: {_why(log, code)}", file=sys.stderr)
            before, left = left, _left(plan)
            if not left or min(codes) >= 0:
                break
            tries = TRIES if left < before else tries - 1
    failed = [code for code in codes if code]
    told = left or plan.study.stop_on_failure
    return max(failed, key=_rank) if failed and told else 0


def _left(plan: Plan) -> int:
    return len(outcome.undone(plan, hw.sweeps.read(plan.study.folder)))


def _rank(code: int) -> int:
    """Which of several ends is told: wrong usage, an interrupt, any other."""
    return {2: 2, signals.CODE: 1}.get(code, 0)


def _why(log: pathlib.Path, code: int) -> str:
    """How a worker ended: a signal, or the last that it said."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name} ({log})"
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {code}, no output"


def main(argv: Sequence[str]) -> int:
    """Checks the flags, runs the trials, prints and draws the study."""
    given = command.parse(argv, define, __doc__)
    study = places.read(given)
    asked = given.workers
    if given.processes is not None:
        if asked is not None:
            raise UsageError("--processes is the former name of --workers: drop it")
        asked = given.processes
    env = os.environ
    there = places.gpus(env, _gpus())
    dealt = places.places(asked, given.devices, _cpus(), there, env)
    if study.verify is not None:
        return 0 if sweep.verify(plans.make(study)) else 1
    jax.config.update("jax_platforms", "cpu")  # the accelerators are for the workers
    plan = plans.make(study)
    plan.claim()
    name = texts.write(plan)
    print(find.question(plan.task.__doc__))
    outcome.tell_before(plan)
    workers = "1 worker" if len(dealt) == 1 else f"{len(dealt)} workers"
    print(f"{workers}; python -m launch.status {study.folder}", flush=True)
    try:
        code = work(plan, name, dealt)
    except KeyboardInterrupt:
        outcome.show_so_far(plan)
        raise
    if code in (2, signals.CODE):
        outcome.show_so_far(plan)
        return code
    code = outcome.finish(plan) or code
    print(f"everything is in {study.folder}/")
    return 1 if code else 0


def _cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _gpus() -> list[str]:
    """The GPUs of this machine, without a library that would take hold of them."""
    there = pathlib.Path("/dev").glob("nvidia[0-9]*")
    return sorted((path.name.removeprefix("nvidia") for path in there), key=int)


if __name__ == "__main__":
    command.run(main)
