"""Runs or sweeps one experiment. Each file of `experiments/tasks` says what to expect.

python -m experiments.main                                      # lists them
python -m experiments.main --experiment=digits --weights=left=1,right=0.3
python -m experiments.main --experiment=digits --balancer=cagrad:c=0.4 --set=lr=1e-3
python -m experiments.main --experiment=brain --sweep --workdir=studies/brain
python -m experiments.main --experiment=path/to/mine.py         # see template.py
"""

import pathlib
from collections.abc import Sequence

import headwise as hw
from experiments.harness import command
from experiments.harness import find
from experiments.harness import request as requests
from experiments.harness import run
from experiments.harness import show
from experiments.harness import sweep
from experiments.harness.spec import Experiment


def main(argv: Sequence[str]) -> None:
    """Checks the flags, claims the folder, then runs or sweeps."""
    if len(argv) == 1:
        print(f"{__doc__}\n{find.listing()}")
        return
    request = requests.read(argv, __doc__)
    experiment = run.build(request)
    workdir = hw.training.claim_workdir(
        request.workdir, request.config(), told=request.told()
    )
    if request.sweep:  # its trials may be shared among processes
        work(request, experiment, workdir)
        return
    with hw.training.hold_workdir(workdir):
        work(request, experiment, workdir)


def work(
    request: requests.Request, experiment: Experiment, workdir: pathlib.Path
) -> None:
    """Runs or sweeps, and prints what came out."""
    print(find.question(request.task.__doc__))
    done = len(hw.sweeps.read(workdir))
    if done:
        print(f"{workdir}/ has {done} records already: what is done is not run again")
    if request.sweep:
        sweep.sweep(request, experiment, workdir)
    else:
        metrics = run.run(request, experiment, workdir)
        print(f"\n{show.metrics_line(metrics)}")
    print(f"\neverything is in {workdir}/")


if __name__ == "__main__":
    command.run(main)
