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

Command:   python -m experiments.balancer_duel --workdir=runs/duel
           python -m experiments.balancer_duel --methods=equal,mgda,upgrad
Time:      20 minutes on two CPU cores, most of it compiling; two a few methods
Expected:  tuned static weights and most methods are level on digits (0.113 to 0.118);
           mgda, imtl_g, nash_mtl and fairgrad alone reach the toy's front from all
           starts without a head that comes first. docs/balancers.md has the table.
"""

import json
import pathlib

import numpy as np
import rich.console
import rich.progress
from absl import app
from absl import flags

import headwise as hw
from experiments import duel

_PROBLEMS = flags.DEFINE_list("problems", "quadratics,toy,vlmop2,digits", "Which.")
_METHODS = flags.DEFINE_list("methods", None, "Which balancers; all if not given.")
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/balancer_duel", "Folder of the results."
)
_SMOKE = flags.DEFINE_bool("smoke", False, "A version of a few seconds.")


def main(argv: list[str]) -> None:
    """Trains every method on every problem; prints a table, writes two pictures."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    known = duel.methods()
    chosen = _METHODS.value or list(known)
    for flag, given, allowed in (
        ("problems", _PROBLEMS.value, duel.PROBLEMS),
        ("methods", chosen, known),
    ):
        unknown = sorted(set(given) - set(allowed))
        if unknown:
            raise app.UsageError(
                f"--{flag}: expected some of {', '.join(allowed)}; got {unknown}"
            )
    folder = pathlib.Path(_WORKDIR.value)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, list]] = {}
    ways: dict[str, np.ndarray] = {}
    front = None
    columns = rich.progress.Progress.get_default_columns()
    with rich.progress.Progress(
        *columns, rich.progress.TimeElapsedColumn(), transient=True
    ) as bar:
        task = bar.add_task("", total=len(_PROBLEMS.value) * (len(chosen) + 1))
        for name in _PROBLEMS.value:
            problem = duel.PROBLEMS[name](_SMOKE.value)
            rows = results.setdefault(name, {})
            static = np.stack([duel.SHARES, 1 - duel.SHARES], axis=1).astype(np.float32)
            for method in [duel.STATIC, *chosen]:
                bar.update(task, description=f"{name}: {method}")
                if method == duel.STATIC:
                    scores, way = duel.train(problem, hw.balancers.constant(), static)
                else:
                    scores, way = duel.train(problem, known[method]())
                rows[method] = [float(s) for s in scores]
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
    print(f"\neverything is in {folder}/")


if __name__ == "__main__":
    app.run(main)
