"""`Backward.reaches` agrees with `routing`, from the linear program."""

import jax
import jax.numpy as jnp
import pytest

import headwise as hw
from tests.gradients import _programs


def reached(program, params, *args):
    _, _, backward = hw.gradients.linearize(
        hw.gradients.with_aux(program, False), params, *args
    )
    return backward.names, backward.reaches()


def assert_agree(program, params, *args):
    names, flags = reached(program, params, *args)
    routing = hw.routing(program, params, *args)
    assert names == routing.names
    assert flags == [jax.tree.leaves(routing.reaches[name]) for name in names]


@pytest.mark.parametrize("name", sorted(_programs.PROGRAMS))
def test_every_way_to_write_a_model(name):
    assert_agree(_programs.PROGRAMS[name], _programs.make_params(), _programs.X)


def stacked(p, x):
    losses = jnp.stack([p["A"] * p["C"] * x, p["A"] * p["D"] * x, p["D"] * x])
    return {"y1": losses[0], "y2": losses[1], "y3": losses[2]}


def channels(p, x):
    out = x * jnp.concatenate([p["C"] * jnp.ones(2), p["D"] * jnp.ones(3)])
    return {"y1": jnp.sum(out[:2]), "y2": p["A"] * jnp.sum(out[2:])}


def no_path(p, x):
    return {"y1": p["A"], "y2": jax.lax.stop_gradient(p["C"]), "y3": x + 0 * x}


def one_value_twice(p, x):
    value = p["A"] * x
    return {"y1": value, "y2": value, "y3": p["D"] * value}


@pytest.mark.parametrize("program", [stacked, channels, no_path, one_value_twice])
def test_heads_that_share_an_array_and_heads_without_a_path(program):
    params = {"A": 2.0, "C": 3.0, "D": 5.0}
    assert_agree(program, params, 1.5)
    assert_agree(jax.jit(program), params, 1.5)


def test_one_by_hand():
    names, flags = reached(stacked, {"A": 2.0, "C": 3.0, "D": 5.0}, 1.0)
    assert names == ("y1", "y2", "y3")
    assert flags == [[True, True, False], [True, False, True], [False, False, True]]
