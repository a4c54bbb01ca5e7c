"""What validate may return: numbers and metrics by name, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

RATIO = hw.metrics.Ratio
GOOD = {
    "ratio": (RATIO(jnp.array(1.0), jnp.array(4.0)), 0.25),
    "empty ratio": (RATIO(jnp.array(0.0), jnp.array(0.0)), None),
    "numpy": (np.float64(0.5), 0.5),
    "half": (jnp.bfloat16(0.5), 0.5),
    "int": (3, 3.0),
    "flag": (np.True_, 1.0),
    "nested": ({"a": jnp.inf, "b": 1}, {"a": None, "b": 1.0}),
    "named": (
        RATIO(jnp.array([1.0, 0.0]), jnp.array([4.0, 0.0])).named(["x", "y"]),
        {"x": 0.25, "y": None},
    ),
    "means": (
        hw.Means({"a": 2.0, "b": 0.0}, counts={"a": 3, "b": 0}),
        {"a": 2.0, "b": None},
    ),
    "depth": (  # errors 0 and 2 of depths 1 and 4
        hw.metrics.depth_errors(jnp.array([[1.0, 6.0]]), jnp.array([[1.0, 4.0]])),
        {
            "absolute": 1.0,
            "relative": 0.25,
            "within_1": 0.5,
            "within_2": 1.0,
            "within_3": 1.0,
            "rmse": pytest.approx(2**0.5),
        },
    ),
    "angles": (  # 0 and 90 degrees
        hw.metrics.normal_angles(
            jnp.array([[[1.0, 0.0], [0.0, 1.0]]]), jnp.array([[[1.0, 0.0]] * 2])
        ),
        {
            "mean": pytest.approx(45.0),
            "median": pytest.approx(45.0, abs=0.05),
            "within_11.25": 0.5,
            "within_22.5": 0.5,
            "within_30": 0.5,
        },
    ),
}
BAD = {
    "text": ("0.5", TypeError, r"metric 'm': expected a scalar .*, got str"),
    "none": (None, TypeError, r"metric 'm': .*, got None"),
    "vector": (jnp.ones(3), ValueError, r"metric 'm': .* of shape \(3,\)$"),
    "complex": (1j, TypeError, r"metric 'm': .*, got complex"),
    "classes": (
        RATIO(jnp.ones(3), jnp.ones(3)),
        ValueError,
        r"metric 'm': .*Ratio of shape \(3,\); .* its .mean, or .named\(classes\)$",
    ),
    "nested": ({"n": "x"}, TypeError, r"metric 'm/n': .*, got str"),
    "list": ([1.0], TypeError, r"metric 'm': .*, got list"),
}


STEP = jax.jit(hw.training.make_step(lambda p, b: {"a": p["w"] * b}, optax.sgd(0.1)))


def validated(got):
    """The record of a run of one step."""
    state = hw.training.init_state(["a"], {"w": 1.0}, optax.sgd(0.1))
    options = {"validate": lambda params, rest: got, "progress": False}
    return hw.training.fit(STEP, state, lambda t: 0.0, 1, **options)[1][-1]


@pytest.mark.parametrize("kind", GOOD)
def test_validate_may_return_numbers_and_metrics(kind):
    got, right = GOOD[kind]
    assert validated({"m": got})["validation"] == {"m": right}


@pytest.mark.parametrize("kind", BAD)
def test_what_validate_may_not_return_is_named(kind):
    got, error, words = BAD[kind]
    with pytest.raises(error, match=f"^validate: {words}"):
        validated({"m": got})
    with pytest.raises(TypeError, match=r"^validate: expected \{name: scalar\}, "):
        validated(got if kind != "nested" else 0.5)
