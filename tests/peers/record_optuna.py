"""Records an Optuna study over the loss weights of two heads, and its Pareto front.

Run where it is installed; the tests of coming_from_optuna_wandb.md need only the
file that it writes:

    pip install "optuna==5.0.*"
    python -m tests.peers.record_optuna

What Optuna decides here follows from its seeds: a grid, and a pruner of medians and one
of halving on it. The training is twenty lines of NumPy, in float64.
"""

import importlib.metadata
import json
import pathlib
import warnings

import numpy as np

from tests.peers import record_keras

waves, lists = record_keras.waves, record_keras.lists
TARGET = pathlib.Path(__file__).with_name("optuna.json")
GRID = {"near": [0.1, 0.3, 1.0, 3.0], "rate": [0.02, 0.2]}
STEPS = 32
RUNGS = (8, 16, 32)


def data():
    """16 examples of 3 numbers; two targets that one vector cannot both fit."""
    x = waves((16, 3), 5.0)
    return x, {"near": x @ [1.0, -1.0, 0.5], "far": x @ [-0.5, 1.0, 1.0]}


def train(near, rate, told=lambda step, values: None):
    """Gradient descent on near * error + 1 * error: the errors at the end."""
    x, targets = data()
    w = np.ones(3)

    def values():
        return {n: float(np.mean((x @ w - y) ** 2)) for n, y in targets.items()}

    for step in range(1, STEPS + 1):
        grads = {n: 2 * x.T @ (x @ w - y) / len(x) for n, y in targets.items()}
        w = w - rate * (near * grads["near"] + grads["far"])
        told(step, values())
    return values()


def grid(optuna):
    """Every setting once; the trials that no other is better than."""

    def objective(trial):
        near = trial.suggest_categorical("near", GRID["near"])
        rate = trial.suggest_categorical("rate", GRID["rate"])
        found = train(near, rate)
        return found["near"], found["far"]

    sampler = optuna.samplers.GridSampler(GRID, seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective)
    found = [
        t.params | dict(zip(("value near", "value far"), t.values, strict=True))
        for t in study.trials
    ]
    return found, [trial.params for trial in study.best_trials]


def halved(optuna):
    """The sum of both, where the worse half is stopped at a quarter and at a half."""

    def objective(trial):
        near = trial.suggest_categorical("near", GRID["near"])
        rate = trial.suggest_categorical("rate", GRID["rate"])

        def told(step, values):
            if step in RUNGS[:-1]:
                trial.report(sum(values.values()), step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        return sum(train(near, rate, told).values())

    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler(GRID, seed=0),
        pruner=optuna.pruners.SuccessiveHalvingPruner(8, 2, 0),
    )
    study.optimize(objective)
    return [
        trial.params
        | {
            "state": trial.state.name,
            "values": lists(list(trial.intermediate_values.values())),
        }
        for trial in study.trials
    ]


def main():
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials, front = grid(optuna)
    record = {
        "versions": {"optuna": importlib.metadata.version("optuna")},
        "trials": trials,
        "front": front,
        "halved": halved(optuna),
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
