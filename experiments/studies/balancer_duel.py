"""Question: does any way of balancing beat static weights that were tuned?

Every balancer, equal weights and a sweep of static weights, at the same number of
steps, on three problems whose Pareto front is known and on MultiMNIST:

quadratics   two convex bowls in ten dimensions, one a hundred times as steep
toy          Liu et al.'s problem in two dimensions, from the five starts of Nash-MTL:
             equal weights get stuck in the valley of one loss
vlmop2       Van Veldhuizen's second problem in ten dimensions, with a concave front
digits       which two digits overlap in a picture; two heads on a small MLP

On the first three the score is the distance of the end point to the front, in units of
the front's extent: 0 is perfect. On digits it is the mean test error of both heads.
Mean and 95 % interval over starts or seeds.

Command:   python -m experiments.studies.balancer_duel --workdir=runs/duel
           python -m experiments.studies.balancer_duel --methods=equal,mgda,upgrad
Time:      20 minutes on two CPU cores, most of it compiling; two a few methods
Expected:  tuned static weights and most methods are level on digits (0.113 to 0.118);
           mgda, imtl_g, nash_mtl and fairgrad alone reach the toy's front from all
           starts without a head that comes first. balancers.md has the table.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.progress
from absl import flags

import headwise as hw
from experiments.harness import balancers
from experiments.harness import command
from experiments.harness import show
from experiments.harness import text
from experiments.studies import duel


def define(values: flags.FlagValues) -> None:
    """The flags of this study."""
    flags.DEFINE_list("problems", ",".join(duel.PROBLEMS), "which", flag_values=values)
    flags.DEFINE_list(
        "methods", None, "which balancers; all if not given", flag_values=values
    )
    flags.DEFINE_string(
        "workdir", "runs/balancer_duel", "folder of the results", flag_values=values
    )
    flags.DEFINE_bool("smoke", False, "a version of a few seconds", flag_values=values)


def main(argv: Sequence[str]) -> None:
    """Trains every method on every problem; prints a table, writes two pictures."""
    given = command.parse(argv, define, __doc__)
    known = duel.methods()
    chosen = given.methods or list(known)
    text.known_names("--problems", given.problems, duel.PROBLEMS)
    text.known_names("--methods", chosen, known)
    folder = text.folder("--workdir", given.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list]] = {}
    ways: dict[str, np.ndarray] = {}
    front = None
    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(
        *columns, rich.progress.TimeElapsedColumn(), transient=True
    ) as bar:
        task = bar.add_task("", total=len(given.problems) * (len(chosen) + 1))
        for name in given.problems:
            problem = duel.PROBLEMS[name](given.smoke)
            rows = results.setdefault(name, {})
            static = np.stack([duel.SHARES, 1 - duel.SHARES], axis=1).astype(np.float32)
            for method in [duel.STATIC, *chosen]:
                bar.update(task, description=f"{name}: {method}")
                if method == duel.STATIC:
                    scores, way = duel.train(problem, hw.balancers.constant(), static)
                else:
                    balancer = balancers.make(known[method], duel.NAMES)
                    scores, way = duel.train(problem, balancer)
                rows[method] = [float(s) for s in scores]
                record(folder, name, known.get(method, method), problem, rows[method])
                if name == "toy":
                    assert way is not None
                    ways[method], front = way, problem.front
                bar.advance(task)
    duel.show(results, rich.console.Console(width=110))
    part = folder / "scores.json.part"
    part.write_text(json.dumps(results, indent=2) + "\n")
    part.replace(folder / "scores.json")
    duel.draw_scores(results, folder / "scores.png")
    if front is not None:
        duel.draw_ways(front, ways, folder / "toy.png")
    about = {"question": __doc__, "metrics": {"score": False}}
    show.write_report(about, folder)
    print(f"\neverything is in {folder}/")


def record(
    folder: pathlib.Path,
    name: str,
    balancer: str,
    problem: duel.Problem,
    scores: Sequence[float],
) -> None:
    """Appends what a balancer reached on a problem, a record a start."""
    settings = {"problem": name, "balancer": balancer, "steps": problem.steps}
    made_with = hw.sweeps.made_with()
    records = [
        hw.sweeps.record(
            {}, start, {"score": score}, settings=settings, made_with=made_with
        )
        for start, score in enumerate(scores)
    ]
    hw.sweeps.append(folder, *records)


if __name__ == "__main__":
    command.run(main)
