"""Every balancer: an absent head changes nothing, and no head goes by position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.balancers import _battery
from tests.balancers import _cases


@_battery.repeatable_balancer
@pytest.mark.parametrize("absent", _cases.NAMES)
def test_absent_head_gets_nothing_and_changes_nothing(name, absent):
    if absent == _cases.CASES[name].primary:
        pytest.skip("nothing is left to compare with")
    here = [i for i, n in enumerate(_cases.NAMES) if n != absent]
    _, update, state = _battery.prepare(name)
    rest = tuple(n for n in _cases.NAMES if n != absent)
    _, update_rest, state_rest = _battery.prepare(name, rest)
    for step in range(3):
        grads = _battery.make_grads(seed=step)
        # What an absent head is said to be must not matter, not even NaN.
        grads[absent] = jax.tree.map(lambda g: g * jnp.nan, grads[absent])
        all_of_them = _battery.make_signals(
            grads, jnp.array([n != absent for n in _cases.NAMES])
        )
        alone = _battery.make_signals({n: grads[n] for n in rest})
        alone = alone._replace(values=all_of_them.values[np.array(here)])
        values = all_of_them.values.at[_cases.NAMES.index(absent)].set(jnp.nan)
        got, state = update(all_of_them._replace(values=values), state)
        want, state_rest = update_rest(alone, state_rest)
        assert got.weights[_cases.NAMES.index(absent)] == 0
        _battery.assert_same(got.weights[np.array(here)], want.weights, 1e-5)
        _battery.assert_same(got.direction, want.direction, 1e-5)


@_battery.every_balancer
def test_all_absent_is_finite(name):
    _, update, state = _battery.prepare(name)
    signals = _battery.make_signals(_battery.make_grads(), jnp.zeros(3, bool))
    decision, new = update(signals, state)
    np.testing.assert_array_equal(decision.weights, 0.0)
    for leaf in jax.tree.leaves((decision.direction, new)):
        assert np.isfinite(leaf).all()


@_battery.repeatable_balancer
def test_renaming_heads_permutes_the_weights(name):
    """Heads a, b, c as c', a', b': each keeps what it gets."""
    order = [2, 0, 1]  # of the new rows, as old rows
    new = {_cases.NAMES[o]: f"{i}{_cases.NAMES[o]}" for i, o in enumerate(order)}
    _, first, state = _battery.prepare(name)
    _, second, state_permuted = _battery.prepare(name, tuple(new.values()))
    grads = _battery.make_grads()
    signals = _battery.make_signals(grads)
    permuted = _battery.make_signals({new[n]: grads[n] for n in _cases.NAMES})
    permuted = permuted._replace(values=signals.values[np.array(order)])
    for _ in range(2):
        got, state = first(signals, state)
        want, state_permuted = second(permuted, state_permuted)
        _battery.assert_same(got.weights[np.array(order)], want.weights, 1e-5)
        _battery.assert_same(got.direction, want.direction, 1e-5)
