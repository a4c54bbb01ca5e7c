"""A name of a trial is read, however a function of the trial asks for it."""

import copy
import operator

import jax
import optax
import pytest

import headwise as hw


def of_rate(rate):
    """A program whose optimiser is made by this function of the trial."""
    return hw.training.program(
        lambda params, batch: {"a": params**2},
        lambda trial: optax.sgd(rate(trial)),
        init=lambda key: 1.0,
        batch=lambda key: (),
        evaluate=lambda params, rest: {"a": params},
    )


@pytest.mark.parametrize(
    "rate",
    [
        lambda trial: trial["lr"],
        lambda trial: trial.get("lr"),
        lambda trial: trial.setdefault("lr", 1.0),
        lambda trial: trial.pop("lr"),
        lambda trial: dict(trial)["lr"],
        lambda trial: {**trial}["lr"],
        lambda trial: (trial | {"b": 1})["lr"],
        lambda trial: ({"b": 1} | trial)["lr"],
        lambda trial: (lambda lr, **rest: lr)(**trial),
        lambda trial: jax.tree.map(lambda x: 1 * x, trial)["lr"],
        lambda trial: copy.copy(trial)["lr"],
        lambda trial: next(x for name, x in trial.items() if name == "lr"),
        lambda trial: operator.itemgetter("lr")(trial),
    ],
)
def test_a_number_is_read_however_it_is_asked_for(rate):
    program = of_rate(rate)
    trial = {"weights": {"a": 1.0}, "seed": 0, "lr": 0.1}
    assert jax.eval_shape(program.init, trial).trial["lr"].shape == ()


def test_what_nothing_reads_is_refused():
    program = of_rate(lambda trial: trial["lr"])
    with pytest.raises(ValueError, match="vary: expected names") as caught:
        program.init({"weights": {"a": 1.0}, "seed": 0, "lr": 0.1, "widht": 1.0})
    assert "of a trial, as ['lr'] is; nothing reads ['widht']" in str(caught.value)
