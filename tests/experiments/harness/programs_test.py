"""Every experiment as a program comes to the numbers of a run; rates are arrays."""

import jax
import numpy as np
import pytest

import headwise as hw
from experiments.harness import find
from experiments.harness import programs
from experiments.harness import run
from tests.experiments import main_test

STEPS = 2
SLOW = ("brain", "digits")
TEMPLATE = str(main_test.ROOT / "experiments/template.py")


def of_fit(experiment, spec, weights, seed):
    """What `run.run` comes to, without its folder."""
    optimizer = experiment.optimizer(STEPS)
    balancer = hw.balancers.constant(weights)
    state = run.first_state(experiment, spec.heads, optimizer, balancer, seed)
    step = hw.training.make_step(
        experiment.values_fn, optimizer, balancer, stateful=True
    )
    batches = run.batches(experiment, seed)
    state, history = hw.training.fit(
        step, state, batches, STEPS, progress=False, log_every=1, chunk=1
    )
    return history, jax.jit(experiment.evaluate)(state.params, state.rest)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in [*find.names(), TEMPLATE]
    ],
)
def test_an_experiment_as_a_program(name):
    task = find.load(name)
    spec, settings = task.SPEC, dict(task.SPEC.defaults) | {"smoke": True}
    weights = {head: 1 + i / 10 for i, head in enumerate(sorted(spec.heads))}
    rate, seed = 2 * settings["lr"], 1
    # The rate of the setting acts in a run; in a program that of the trial.
    history, want = of_fit(task.build(settings | {"lr": rate}), spec, weights, seed)
    experiment = task.build(settings)
    assert programs.varied(experiment) == ("lr",)
    program = programs.program(experiment, STEPS)
    trial = {"weights": weights, "seed": seed, "lr": np.float32(rate)}
    state, step = program.init(trial), jax.jit(program.step)
    for t, record in enumerate(history):
        state, report = step(state, t)
        assert report["values"] == pytest.approx(record["values"], rel=1e-4)
        assert report["weights"] == pytest.approx(weights)
        assert report["finite"]
    metrics = jax.jit(program.evaluate)(state)
    got, want = (jax.tree.map(float, x) for x in (metrics, want))
    # A few predictions of so short a training are nearly a tie.
    assert got == pytest.approx(want, rel=1e-3, abs=0.01)
