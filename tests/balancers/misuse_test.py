"""Every balancer names what is missing, of the wrong number or with the wrong name."""

import jax
import jax.numpy as jnp
import pytest

from tests.balancers import _battery
from tests.balancers import _cases


@_battery.every_balancer
def test_missing_signals_are_named(name):
    balancer, _, state = _battery.prepare(name)
    signals = _battery.make_signals(_battery.make_grads())
    for field in (
        _cases.CASES[name].signals if name != "every" else ()
    ):  # it remembers weights
        label = _cases.CASES[name].label or name
        with pytest.raises(ValueError, match=rf"{label}: expected signals\.{field}"):
            jax.eval_shape(balancer.update, signals._replace(**{field: None}), state)
    # Nothing else is needed.
    others = {"gram", "grads", "step", "key"} - set(_cases.CASES[name].signals)
    jax.eval_shape(balancer.update, signals._replace(**dict.fromkeys(others)), state)


@_battery.every_balancer
def test_wrong_number_of_heads_is_named(name):
    balancer, _, state = _battery.prepare(name)
    right, other = (
        _battery.make_signals(_battery.make_grads()),
        _battery.make_signals(_battery.make_grads(("a", "b"))),
    )
    label = _cases.CASES[name].label or name
    for field in {"values", *_cases.CASES[name].signals} & {"values", "gram", "grads"}:
        wrong = right._replace(**{field: getattr(other, field)})
        with pytest.raises(ValueError, match=rf"{label}: expected signals\.{field}.*3"):
            jax.eval_shape(balancer.update, wrong, state)
    with pytest.raises(
        ValueError, match=rf"{label}: expected signals\.present.*\(2,\)"
    ):
        balancer.update(right._replace(present=jnp.ones(2, bool)), state)


@_battery.every_balancer
def test_wrong_names_are_named(name):
    balancer = _cases.make(name)
    with pytest.raises(TypeError, match=r"names: expected a sequence of names .*'abc'"):
        balancer.init("abc")
    with pytest.raises(ValueError, match="duplicate names"):
        balancer.init(["a", "a", "b"])
    with pytest.raises(ValueError, match="at least one head"):
        balancer.init([])
    if _cases.CASES[name].params:
        with pytest.raises(ValueError, match=f"{name}: expected params, got None"):
            balancer.init(_cases.NAMES)
