"""Runs or sweeps one experiment. Each file of `experiments/tasks` says what to expect.

python -m experiments.main                                      # lists them
python -m experiments.main --experiment=digits --weights=left=1,right=0.3
python -m experiments.main --experiment=digits --balancer=cagrad:c=0.4 --set=lr=1e-3
python -m experiments.main --experiment=brain --sweep --workdir=studies/brain
python -m experiments.main --experiment=digits --sweep --weights=left=1,right=0.1:1
python -m experiments.main --sweep --flagfile=study.flags       # as launch.local does
python -m experiments.main --experiment=path/to/mine.py         # see template.py
"""

from collections.abc import Sequence

from absl import flags

import headwise as hw
from experiments.harness import command
from experiments.harness import devices
from experiments.harness import find
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import request as requests
from experiments.harness import run
from experiments.harness import show
from experiments.harness import study as studies
from experiments.harness import sweep
from experiments.harness.text import UsageError


def main(argv: Sequence[str]) -> int | None:
    """Checks the flags, then runs or sweeps, and prints what came out."""
    if len(argv) == 1:
        print(f"{__doc__}\n{find.listing()}")
        return None
    if command.asks(argv, "sweep"):
        return sweep_trials(argv)
    request = requests.read(argv, __doc__)
    experiment = run.build(request)
    workdir = hw.training.claim_workdir(
        request.workdir, request.config(), told=request.told()
    )
    with hw.training.hold_workdir(workdir), devices.quiet():
        print(find.question(request.task.__doc__))
        done = len(hw.sweeps.read(workdir))
        if done:
            print(
                f"{workdir}/ has {done} records already: what is done is not run again"
            )
        metrics = run.run(request, experiment, workdir)
        print(f"\n{show.metrics_line(metrics)}")
        print(f"\neverything is in {workdir}/")
    return None


def define(values: flags.FlagValues) -> None:
    """The flags of a study, and those that make it one here."""
    studies.define(values)
    flags.DEFINE_bool("sweep", True, "a study of many trainings", flag_values=values)
    former = "another name of --folder"
    flags.DEFINE_string("workdir", None, former, flag_values=values)


def sweep_trials(argv: Sequence[str]) -> int | None:
    """All trials of a study in this process, then one watched run of the best."""
    given = command.parse(argv, define, __doc__)
    if given.workdir is not None:
        if given.folder is not None:
            raise UsageError("--workdir is another name of --folder: drop one of them")
        given.folder = given.workdir
    plan = plans.make(studies.read(given))
    if plan.study.verify is not None:
        return 0 if sweep.verify(plan) else 1
    print(find.question(plan.task.__doc__))
    outcome.tell_before(plan)
    if plan.study.mesh is not None:
        print("a trial takes all devices of --mesh: no launch.worker can join")
    try:
        sweep.train(plan)
    except KeyboardInterrupt:
        outcome.show_so_far(plan)
        raise
    code = outcome.finish(plan)
    outcome.run_best(plan)
    print(f"\neverything is in {plan.study.folder}/")
    return code


if __name__ == "__main__":
    command.run(main)
