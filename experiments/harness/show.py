"""What is printed and drawn of a run and of a sweep."""

import json
import math
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax

import headwise as hw
from experiments.harness import text
from experiments.harness.request import Request
from experiments.harness.spec import Experiment
from experiments.harness.spec import Spec


def metrics_line(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """The metrics of a run in one line, those of classes and parts with both names."""
    texts = []
    for name, x in metrics.items():
        if isinstance(x, Mapping):
            texts.append(metrics_line(x, f"{prefix}{name}/"))
        else:
            texts.append(f"{prefix}{name} {math.nan if x is None else x:.4f}")
    return "  ".join(texts)


def show_heads(
    experiment: Experiment,
    state: hw.training.TrainState,
    history: list[dict[str, Any]],
    folder: pathlib.Path,
) -> None:
    """Prints and draws which head moves which module, and how much."""
    import matplotlib.pyplot as plt

    batch = jax.eval_shape(experiment.batch, jax.random.key(0))
    routing = hw.routing(
        experiment.values_fn, state.params, state.rest, batch, state.key, has_aux=True
    )
    print("\nWhich loss moves which module (read off the program):\n")
    print(routing)
    if not any(record.get("contributions") for record in history):
        print(f"\nHow much is not known: {folder}/metrics.jsonl does not say it")
        return
    print("\nHow much (mean over the run):\n")
    contributions = hw.reports.mean_contributions(history)
    print(contributions)
    (folder / "routing.txt").write_text(f"{routing}\n\n{routing.mermaid()}\n")
    (folder / "contributions.txt").write_text(f"{contributions}\n")
    height = 1.2 + 0.42 * len(contributions.modules)
    figure, axes = plt.subplots(1, 2, figsize=(14, height), layout="constrained")
    routing.plot(axes[0])
    contributions.plot(axes[1])
    figure.savefig(folder / "heads.png", dpi=110)
    plt.close(figure)


def show_sweep(
    spec: Spec, records: Sequence[hw.sweeps.Record], folder: pathlib.Path
) -> None:
    """Prints and draws the trade-off: table, verdict in words, two pictures."""
    import matplotlib.pyplot as plt

    seeds = len({record["seed"] for record in records})
    title = f"mean ± standard deviation over {seeds} seeds, held-out data"
    table = hw.reports.sweep_table(records, spec.metrics, title)
    verdict = hw.reports.verdict(records, spec.metrics)
    lines = f"{table}\n\n{verdict}\n"
    if spec.remark:
        lines += f"\n{spec.remark}\n"
    print(f"\n{lines}")
    (folder / "table.txt").write_text(lines)
    x, y = spec.front
    front = hw.reports.front_picture(records, x, y, spec.metrics)
    front.figure.savefig(folder / "front.png", dpi=110)
    weights = hw.reports.weights_picture(records, spec.metrics)
    weights.savefig(folder / "weights.png", dpi=110)
    plt.close("all")


def about(request: Request) -> dict[str, Any]:
    """What the report of a folder has to know of its experiment: `report.json`."""
    spec = request.spec
    fixed = "--smoke" if request.smoke else ""
    fixed += f" --dtype={request.dtype}" if request.dtype else ""
    words = (
        "python -m experiments.main --experiment={experiment} --seed={seed} "
        f"--steps={{steps}} --set={{set}} {fixed} "
    )
    again = "--workdir={folder}/again/{key}"
    told = (request.task.__doc__ or "").strip().split("\n\n")
    question = [part for part in told if not part.startswith("Command:")]
    return {
        "question": "\n\n".join(question),
        "metrics": dict(spec.metrics),
        "front": list(spec.front),
        "remark": spec.remark,
        "set": list(spec.defaults),
        "command": f"{words} --weights={{weights}} {again}",
        "command_of_balancers": f"{words} --balancer={{balancer}} {again}",
    }


def write_report(told: Mapping[str, Any], folder: pathlib.Path) -> None:
    """The folder as one HTML file, and what it is about (`about`) beside it."""
    part = folder / "report.json.part"
    part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / "report.json")
    try:
        path = hw.reports.write_report(folder)
    except ModuleNotFoundError as error:
        print(f"\nno report: {error}")
        return
    print(f"\nthe report: {path}")


def best_row(spec: Spec, records: Sequence[hw.sweeps.Record]) -> dict[str, Any]:
    """The row of `summary` with the best mean of the experiment's first metric."""
    metric, more = next(iter(spec.metrics.items()))
    rows = [row for row in hw.reports.summary(records) if row["mean"]]
    if not rows:
        raise FloatingPointError("every trial of the sweep diverged")
    known = sorted({name for row in rows for name in row["mean"]})
    text.known_names("SPEC.metrics", [metric], known)
    rows = [row for row in rows if metric in row["mean"]]
    return (max if more else min)(rows, key=lambda row: row["mean"][metric])
