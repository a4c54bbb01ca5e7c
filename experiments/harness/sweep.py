"""The trials of a study: what they share is built once, what differs is data."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import headwise as hw
from experiments.harness import programs
from experiments.harness import run
from experiments.harness import texts
from experiments.harness.plan import Plan
from experiments.harness.spec import Experiment
from experiments.harness.text import UsageError


def train(
    plan: Plan,
    *,
    progress: bool = True,
    workers: int = 1,
    workers_here: int | None = None,
    cohorts: int | None = None,
) -> list[hw.sweeps.Record]:
    """Trains what a plan lists and its folder does not have yet.

    Trials that differ only in numbers that are arrays run as one program. What they
    share else is built once. The study's text is left in the folder, by which workers
    join; not that of a mesh, whose trials take all devices.

    Args:
        plan: of `plan.make`.
        progress: whether to show how far it is.
        workers: how many processes do this at the same time.
        workers_here: how many of them share the memory of this machine; None: all.
        cohorts: after how many this one ends; None: when no trial is left.

    Raises:
        UsageError, StudyError, WorkdirError: as `ready`; nothing is written.
    """
    train = ready(plan, workers=workers, workers_here=workers_here)
    return train(progress=progress, cohorts=cohorts)


def ready(
    plan: Plan,
    *,
    workers: int = 1,
    workers_here: int | None = None,
    here: bool = True,
) -> Callable[..., list[hw.sweeps.Record]]:
    """Builds what a plan trains, and gives what trains it; nothing is written yet.

    Args:
        plan: of `plan.make`.
        workers: how many processes train it at the same time.
        workers_here: how many of them share the memory of this machine; None: all.
        here: whether on the devices that this process sees: what trials need is
            compared with their memory.

    Returns:
        `train(progress=, cohorts=)`, as above.

    Raises:
        UsageError: the experiment refuses settings, a balancer does not fit, or
            `--size`, or one trial, is more than the memory holds.
        StudyError: the folder is of another study.
    """
    study = plan.study
    make, static = maker(plan)
    options: dict[str, Any] = {
        "steps": plan.steps,
        "static": static,
        "settings": plan.recorded(),
        "mode": mode(plan),
        "retry": study.retry,
        "workers": workers,
        "workers_here": workers_here,
    }
    size = study.size if here else None
    with _usage():
        hw.sweeps.check(
            make, plan.trials, folder=study.folder, size=size, here=here, **options
        )

    def train(
        *, progress: bool = True, cohorts: int | None = None
    ) -> list[hw.sweeps.Record]:
        folder = plan.claim()
        if study.mesh is None:
            texts.write(plan)
        with _usage():
            return hw.sweeps.run(
                make,
                plan.trials,
                folder=folder,
                size=study.size,
                stop_on_failure=study.stop_on_failure,
                progress=progress,
                cohorts=cohorts,
                **options,
            )

    return train


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """What takes more memory than there is can be mended by `--size`, if at all."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith("size: "):
            raise UsageError(f"--{error}") from error
        raise


def mode(plan: Plan) -> str:
    """How trials run; on a mesh one after the other, each on all of its devices."""
    if plan.study.mesh is None or plan.study.mode in ("scan", "loop", "vmap"):
        return plan.study.mode
    if plan.study.mode == "auto":
        return "scan"
    raise UsageError(
        "--mode: expected one of auto, vmap, scan, loop with --mesh, which takes all "
        f"devices for each trial; got {plan.study.mode}"
    )


def maker(plan: Plan) -> tuple[Callable[..., hw.sweeps.Program], list[str]]:
    """The function that makes the program of a plan's trials, and what it is given.

    Raises:
        UsageError: now, or when a program is made: the experiment refuses its settings,
            or a balancer does not fit.
    """
    first = plan.trials[0]
    built: dict[tuple[Any, ...], Experiment] = {}
    experiment = run.experiment(plan.request(first))
    arrays = programs.varied(experiment)
    static = [name for name in first.varied if name not in arrays]
    built[_settings(first, static)] = experiment

    @functools.cache
    def make(**values: Any) -> hw.sweeps.Program:
        """The program of the trials that have these values."""
        trial = next(t for t in plan.trials if values.items() <= t.varied.items())
        request, settings = plan.request(trial), _settings(trial, static)
        if settings not in built:
            built[settings] = run.experiment(request)
        run.check_balancer(request, built[settings])
        balancer = None if request.weights is not None else request.make_balancer()
        dtype = plan.study.dtype
        return programs.program(built[settings], plan.steps, balancer, dtype)

    return make, static


def _settings(trial: hw.sweeps.Trial, static: list[str]) -> tuple[Any, ...]:
    """What an experiment is built of."""
    return tuple(trial.varied[name] for name in static if name != "balancer")
