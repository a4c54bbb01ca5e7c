"""Before and after the trials of a study: what is there, what came out, how it ends."""

import sys
from collections.abc import Callable
from collections.abc import Sequence

import headwise as hw
from experiments.harness import run
from experiments.harness import show
from experiments.harness.plan import Plan


def tell_before(plan: Plan) -> None:
    """Says how many trials there are, and how many are done."""
    folder, count = plan.study.folder, len(plan.trials)
    open_ = len(undone(plan, hw.sweeps.read(folder)))
    programs = len({str(trial.varied["balancer"]) for trial in plan.trials})
    balancers = f" of {programs} balancers" if programs > 1 else ""
    seeds = len({trial.seed for trial in plan.trials})
    over = f", {seeds} seeds" if seeds > 1 else ""
    trials = "1 trial" if count == 1 else f"{count} trials"
    print(f"{trials}{balancers}{over} of {plan.steps} steps", flush=True)
    if open_ < count:
        print(f"{folder}/ has {count - open_} of them: what is done is not run again")


def undone(plan: Plan, records: Sequence[hw.sweeps.Record]) -> list[hw.sweeps.Trial]:
    """The trials of a study that have left no record."""
    known, name = set(map(hw.sweeps.identity, records)), identity(plan)
    return [trial for trial in plan.trials if name(trial) not in known]


def identity(plan: Plan) -> Callable[[hw.sweeps.Trial], str]:
    """What tells a trial from all others, as its record will."""
    settings = plan.recorded()

    def name(trial: hw.sweeps.Trial) -> str:
        one = {"weights": trial.weights, "seed": trial.seed}
        return hw.sweeps.identity(one | {"settings": settings | trial.varied})

    return name


def show_so_far(plan: Plan) -> None:
    """What an interrupted study has: how many trials, and their table."""
    folder, count = plan.study.folder, len(plan.trials)
    records = hw.sweeps.read(folder)
    if any(record["finite"] for record in records):
        print(hw.reports.sweep_table(records, plan.spec.metrics, "so far"))
    done = count - len(undone(plan, records))
    there = f"everything is in {folder}/"
    print(f"{done} of {count} trials are done; {there}", flush=True)


def finish(plan: Plan) -> int:
    """Shows all that is in the folder; 1 if a trial has no end.

    Raises:
        FloatingPointError: no trial came to a finite end.
    """
    folder = plan.study.folder
    records = hw.sweeps.read(folder)
    left, count = undone(plan, records), len(plan.trials)
    if left:
        print(f"error: {len(left)} of {count} trials failed", file=sys.stderr)
    broken = [record for record in records if not record["finite"]]
    first = f" (the first: {broken[0]['error']})" if broken else ""
    if len(broken) == len(records):
        again = f"{first}; --retry tries again" if broken else ""
        raise FloatingPointError(f"no trial came to a finite end{again}")
    if broken:
        print(
            f"{len(broken)} of {len(records)} trials have no finite result; they count "
            f"as done: --retry tries them again{first}",
            file=sys.stderr,
        )
    show.show_sweep(plan.spec, records, folder)
    return 1 if left else 0


def run_best(plan: Plan) -> None:
    """One watched run of the best static weights of these trials, if there are any."""
    static = [trial for trial in plan.trials if trial.weights]
    ours = set(map(identity(plan), static))
    records = hw.sweeps.read(plan.study.folder)
    records = [r for r in records if r["finite"] and hw.sweeps.identity(r) in ours]
    if not records:
        return
    row = show.best_row(plan.spec, records)
    same = [t for t in static if t.weights == row["weights"]]
    of_row = row["settings"].items()
    same = [t for t in same if set(of_row) >= set(t.varied.items())] or same
    workdir = plan.study.folder / "best"
    request = plan.request(same[0])._replace(workdir=workdir)
    run.run(request, run.build(request), workdir, label="best weights")
