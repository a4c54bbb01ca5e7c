"""What an experiment is, and how one is run or swept. Used by `main.py` alone."""

import json
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import headwise as hw

# Those that can be made without arguments; docs/balancers.md says what they do.
BALANCERS = {
    name: getattr(hw.balancers, name)
    for name in (
        "aligned_mtl",
        "cagrad",
        "config",
        "constant",
        "db_mtl",
        "dualproj",
        "dwa",
        "equal",
        "excess_mtl",
        "fairgrad",
        "famo",
        "gls",
        "go4align",
        "graddrop",
        "gradnorm",
        "gradvac",
        "imtl",
        "imtl_g",
        "imtl_l",
        "ldc",
        "mgda",
        "moco",
        "nash_mtl",
        "pcgrad",
        "random_weighting",
        "relobralo",
        "softadapt",
        "tchebycheff",
        "uncertainty",
        "upgrad",
        "uw_so",
    )
}


class Experiment(NamedTuple):
    """A model, its heads, data and metrics, ready to be trained with any weights."""

    names: tuple[str, ...]
    """The heads, sorted."""
    init: Callable[[Any], tuple[Any, Any]]
    """`init(key)` -> (params, rest)."""
    values_fn: Callable[..., tuple[dict, Any]]
    """`(params, rest, batch, key)` -> (raw values, rest)."""
    batch: Callable[[jax.Array], Any]
    """`batch(key)` -> one batch."""
    evaluate: Callable[[Any, Any], dict[str, jax.Array]]
    """`(params, rest)` -> {metric: scalar} on held-out data."""
    optimizer: Callable[[int], optax.GradientTransformation]
    """`optimizer(steps)`."""
    steps: int
    higher: dict[str, bool]
    """{metric: whether more is better}, the most important first."""
    design: Mapping[str, np.ndarray]
    """The weightings of the sweep."""
    seeds: tuple[int, ...]
    front: tuple[str, str]
    """Two metrics to draw against each other."""
    remark: str = ""
    """What a reader of the sweep should know."""
    batched: bool = False
    """Sweep all trials as one program (small models without convolutions)."""


def first_state(
    experiment: Experiment,
    optimizer: optax.GradientTransformation,
    balancer: hw.balancers.Balancer,
    seed: Any,
) -> hw.training.TrainState:
    """The state before the first step; everything follows from the seed."""
    of_model, of_run = jax.random.split(jax.random.key(seed))
    params, rest = experiment.init(of_model)
    return hw.training.init_state(
        experiment.names, params, optimizer, balancer, rest, of_run
    )


def batches(experiment: Experiment, seed: Any) -> Callable[[Any], Any]:
    """`batches(t)`: the batch of step t depends on seed and t alone."""
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return lambda t: experiment.batch(jax.random.fold_in(key, t))


def run(
    experiment: Experiment,
    balancer: hw.balancers.Balancer,
    steps: int,
    seed: int,
    workdir: pathlib.Path,
    label: str = "training",
) -> dict[str, float]:
    """Trains once in `workdir` (goes on if it was interrupted); writes and prints."""
    optimizer = experiment.optimizer(steps)
    state = first_state(experiment, optimizer, balancer, seed)
    parts = (experiment.values_fn, optimizer, balancer)
    step, report = (
        hw.training.make_step(*parts, stateful=True, contributions=on)
        for on in (False, True)
    )
    often = max(1, steps // 20)
    state, history = hw.training.fit(
        step,
        state,
        batches(experiment, seed),
        steps,
        workdir=workdir,
        validate=experiment.evaluate,
        validate_every=often * 5,
        log_every=often,
        checkpoint_every=often * 5,
        report=report,
        report_every=often,
        label=label,
    )
    metrics = history[-1]["validation"]
    # Whole or not at all: a launcher takes this file for the sign that a run is done.
    result = workdir / "result.json.part"
    result.write_text(json.dumps(metrics, indent=2) + "\n")
    result.replace(workdir / "result.json")
    show_heads(experiment, state, history, workdir)
    return metrics


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


def sweep(
    experiment: Experiment, steps: int, seeds: Sequence[int], folder: pathlib.Path
) -> list[hw.sweeps.Record]:
    """Trains every weighting with every seed in one compiled program."""
    optimizer = experiment.optimizer(steps)
    # The weights are data in the balancer's state: one step serves all trials.
    step = hw.training.make_step(
        experiment.values_fn, optimizer, hw.balancers.constant(), stateful=True
    )

    def start(weights: dict[str, jax.Array], seed: jax.Array) -> Any:
        balancer = hw.balancers.constant(weights)
        return first_state(experiment, optimizer, balancer, seed)

    def train_whole(weights: dict[str, jax.Array], seed: jax.Array) -> dict:
        batch = batches(experiment, seed)
        state, _ = jax.lax.scan(
            lambda state, t: (step(state, batch(t))[0], None),
            start(weights, seed),
            jnp.arange(steps),
        )
        return experiment.evaluate(state.params, state.rest)

    compiled_step = jax.jit(step, donate_argnums=0)
    compiled_start = jax.jit(start)

    def train_steps(weights: dict[str, jax.Array], seed: jax.Array) -> dict:
        state, _ = hw.training.fit(
            compiled_step,
            compiled_start(weights, seed),
            batches(experiment, seed),
            steps,
            log_every=100,
            progress=False,
        )
        return experiment.evaluate(state.params, state.rest)

    train = train_whole if experiment.batched else train_steps
    return hw.sweeps.run(
        train,
        experiment.design,
        seeds,
        folder=folder,
        batched=experiment.batched,
    )


def show_sweep(
    experiment: Experiment, records: Sequence[Mapping[str, Any]], folder: pathlib.Path
) -> None:
    """Prints and draws the trade-off: table, verdict in words, two pictures."""
    import matplotlib.pyplot as plt

    seeds = len({record["seed"] for record in records})
    title = f"mean ± standard deviation over {seeds} seeds, held-out data"
    table = hw.reports.sweep_table(records, experiment.higher, title)
    verdict = hw.reports.verdict(records, experiment.higher)
    text = f"{table}\n\n{verdict}\n"
    if experiment.remark:
        text += f"\n{experiment.remark}\n"
    print(f"\n{text}")
    (folder / "table.txt").write_text(text)
    x, y = experiment.front
    front = hw.reports.front_picture(records, x, y, experiment.higher)
    front.figure.savefig(folder / "front.png", dpi=110)
    weights = hw.reports.weights_picture(records, experiment.higher)
    weights.savefig(folder / "weights.png", dpi=110)
    plt.close("all")


def best_weights(
    experiment: Experiment, records: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The weighting with the best mean of the experiment's first metric."""
    metric, more = next(iter(experiment.higher.items()))
    rows = [row for row in hw.reports.summary(records) if row["mean"]]
    if not rows:
        raise FloatingPointError("every trial of the sweep diverged")
    return (max if more else min)(rows, key=lambda row: row["mean"][metric])["weights"]
