"""Every balancer: an absent head changes nothing, and no head goes by position."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.balancers import _battery
from tests.balancers import _cases


@functools.cache
def seen_without(absent, step):
    """The signals of a step in which a head is absent, and those without that head."""
    grads = _battery.make_grads(seed=step)
    # What an absent head is said to be must not matter, not even NaN.
    grads[absent] = jax.tree.map(lambda g: g * np.float32(np.nan), grads[absent])
    here = np.array([n != absent for n in _cases.NAMES])
    all_of_them = _battery.make_signals(grads, jnp.asarray(here))
    values = np.where(here, np.asarray(all_of_them.values), np.float32(np.nan))
    rest = {n: g for n, g in grads.items() if n != absent}
    # Nobody is said to be absent here: that is the same as all being there.
    alone = _battery.make_signals(rest)
    alone = alone._replace(values=jnp.asarray(values[here]), present=None)
    return all_of_them._replace(values=jnp.asarray(values)), alone


def those_without(name, absent):
    """Heads to compare with: the same two for each absent one, if names are nothing."""
    rest, any_two = tuple(n for n in _cases.NAMES if n != absent), _cases.NAMES[:2]
    options = _cases.CASES[name].options
    return any_two if options(any_two) == options(rest) else rest


@_battery.repeatable_balancer
@pytest.mark.parametrize("absent", _cases.NAMES)
def test_absent_head_gets_nothing_and_changes_nothing(name, absent):
    if absent == _cases.CASES[name].primary:
        pytest.skip("nothing is left to compare with")
    gone = _cases.NAMES.index(absent)
    here = np.array([i for i in range(3) if i != gone])
    _, update, state = _battery.prepare(name)
    rest = those_without(name, absent)
    _, update_rest, state_rest = _battery.prepare(name, rest)

    def compare(step, state, state_rest):
        all_of_them, alone = seen_without(absent, step)
        grads = zip(rest, alone.grads.values(), strict=True)
        alone = alone._replace(grads=dict(grads))
        got, state = update(all_of_them, state)
        want, state_rest = update_rest(alone, state_rest)
        got = got._replace(weights=np.asarray(got.weights))
        assert got.weights[gone] == 0
        _battery.assert_same(got.weights[here], want.weights, 1e-5)
        _battery.assert_same(got.direction, want.direction, 1e-5)
        return got, state, state_rest

    first = state, state_rest
    for step in range(3):
        _, *first = compare(step, *first)
    if name == "fallback":  # it asks its other balancer as long as a head is absent
        return
    # All are there for a while; then the state moves as that of the others' problem.
    for step in range(3):
        _, state = update(_battery.problem(step), state)
    met = state
    state_rest = rows_of(state, state_rest, here)
    for step in range(3, 13):
        got, state, state_rest = compare(step, state, state_rest)
    others = rows_of(state, state_rest, here)
    for a, b in zip(learned(others), learned(state_rest), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    if name == "dwa":  # the window that was open closes
        return
    # And what is known of the absent head stands still.
    for new, old, alone in zip(*map(learned, (state, met, state_rest)), strict=True):
        axes = axes_of_heads(new, alone)
        if axes and not np.array_equal(new, got.weights):  # the log of the last weights
            was, kept = (np.take(np.asarray(x), gone, axes[0]) for x in (old, new))
            np.testing.assert_array_equal(kept, was)


def axes_of_heads(x, alone):
    """Those along which a leaf of three heads is longer than that of two."""
    return [i for i, (n, m) in enumerate(zip(x.shape, alone.shape)) if n != m]


def rows_of(state, like, here):
    """What a state learned of these heads, beside what the user says of them."""
    said, leaves = settings(like), []
    for x, alone in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
        for axis in axes_of_heads(x, alone):
            x = np.take(np.asarray(x), here, axis)
        leaves.append(alone if id(alone) in said else jnp.asarray(x))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


LOGS = {"GramState": ("weights",)}
"""Fields that hold what was answered last, and are read by nobody."""


def settings(state):
    """Ids of the leaves that a user set."""
    return {
        id(leaf)
        for part in _battery.library_states(state)
        for field in getattr(type(part), "settings", ())
        for leaf in jax.tree.leaves(getattr(part, field))
    }


def learned(state):
    """The leaves of a state, without what the user says and what is for the log."""
    left_out = settings(state) | {
        id(getattr(part, field))
        for part in _battery.library_states(state)
        for field in LOGS.get(type(part).__name__, ())
    }
    return [leaf for leaf in jax.tree.leaves(state) if id(leaf) not in left_out]


@_battery.every_balancer
def test_all_absent_is_finite(name):
    _, update, state = _battery.prepare(name)
    signals = _battery.problem()._replace(present=jnp.zeros(3, bool))
    decision, new = update(signals, state)
    np.testing.assert_array_equal(decision.weights, 0.0)
    for leaf in jax.tree.leaves((decision.direction, new)):
        assert np.isfinite(leaf).all()


@functools.cache
def in_another_order(order, new):
    """The usual signals, and those of the heads under their new names."""
    grads, signals = _battery.make_grads(), _battery.problem()
    permuted = _battery.make_signals({name: grads[old] for old, name in new})
    values = np.asarray(signals.values)[list(order)]
    return signals, permuted._replace(values=jnp.asarray(values))


@_battery.repeatable_balancer
def test_renaming_heads_permutes_the_weights(name):
    """Heads a, b, c as c', a', b': each keeps what it gets."""
    order = [2, 0, 1]  # of the new rows, as old rows
    new = {_cases.NAMES[o]: f"{i}{_cases.NAMES[o]}" for i, o in enumerate(order)}
    _, first, state = _battery.prepare(name)
    _, second, state_permuted = _battery.prepare(name, tuple(new.values()))
    signals, permuted = in_another_order(tuple(order), tuple(new.items()))
    for _ in range(2):
        got, state = first(signals, state)
        want, state_permuted = second(permuted, state_permuted)
        _battery.assert_same(np.asarray(got.weights)[order], want.weights, 1e-5)
        _battery.assert_same(got.direction, want.direction, 1e-5)
