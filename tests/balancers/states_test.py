"""States of balancers: bounded, of named heads, no buffer twice, settings declared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.balancers import _battery
from tests.balancers import _case
from tests.balancers import _cases

B = hw.balancers
HEADS = len(_cases.NAMES)


def label(name):
    return _cases.CASES[name].label or name


# Bounds.

STEPS = 10_000
LARGE = 1.3e6  # e^14, and a little
RNG = np.random.default_rng(0)


def schedule():
    """Values [STEPS, 3]: a head, then all, at the edges, for long, and back."""
    rows = RNG.uniform(0.5, 2.0, size=(STEPS, HEADS))
    rows[500:2500, 0], rows[2500:3000, 0] = 0.0, 0.5
    rows[3000:5000, 0], rows[5000:5500, 0] = 1e-30, 0.5
    rows[5500:6000, 1], rows[6000:6500, 1] = 1e30, 0.5
    rows[6500:7500, 2] = -0.002
    rows[7500:8000, 0] = np.tile([1e30, 1e-30, 0.0, -1e30], 125)
    for edge, start in zip((0.0, 1e-30, -1.0, 1e30), range(8000, 8800, 200)):
        rows[start : start + 200] = edge
    return rows.astype(np.float32)


VALUES = schedule()
# Of quadratic losses: as long as the root of the value.
UNIT_ROWS = RNG.normal(size=(HEADS, 4)).astype(np.float32)
ROWS = np.sqrt(np.abs(VALUES))[:, :, None] * UNIT_ROWS

NO_MEMORY = {"names", "weights", "preferences", "reference", "leak"} | {
    "non_uniformity",  # of `epo`, for the log
    "distance",  # of `pmgda`, for the log
}
# Forms that an option turns on: their defaults are another method.
FORMS = ("stch", "softadapt")


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, _cases.make_plain) for name in _cases.CASES]
    + [(name, _cases.make) for name in FORMS],
)
def test_bounded_whatever_comes(name, make):
    """10,000 steps of zeros, tiny, huge and negative values, and jumps between them."""
    balancer = make(name)
    state = _battery.start(name, balancer, _cases.NAMES, jnp.zeros(4))
    pace = 20 if set(state._fields) <= NO_MEMORY else 1
    values, rows = VALUES[::pace], ROWS[::pace]

    @jax.jit
    def run(state, values, rows):
        def body(state, step):
            t, value, row = step
            signals = hw.Signals(
                values=value,
                gram=jnp.matmul(row, row.T, precision="highest"),
                grads=dict(zip(_cases.NAMES, row, strict=True)),
                step=t,
                key=jax.random.fold_in(jax.random.key(0), t),
            )
            decision, state = balancer.update(signals, state)
            leaves = jax.tree.leaves((decision, state))
            finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves])
            direction = jnp.zeros(4)
            if decision.direction is not None:
                direction = decision.direction
            return state, (decision.weights, direction, jnp.all(finite))

        return jax.lax.scan(body, state, (jnp.arange(len(values)), values, rows))

    _, (weights, direction, finite) = run(state, values, rows)
    assert np.asarray(finite).all(), f"first at step {pace * np.argmin(finite)}"
    if name == "scalarization":  # its weights are the derivatives that the user gave
        return
    size = np.maximum(np.abs(values).max(1), 1.0)
    if balancer.needs == "grads":
        length = np.linalg.norm(np.float64(direction), axis=1)
        longest = np.linalg.norm(np.float64(rows), axis=2).max(1)
        longest = np.maximum.accumulate(longest)  # some average over steps
        assert (length <= LARGE * np.maximum(longest, 1.0)).all()
        return
    # No weight is large, or it is that of a mean that scales with each of its values.
    weights = np.abs(np.float64(weights))
    large = (weights > LARGE) & (weights * np.abs(values) > LARGE * size[:, None])
    assert not large.any(), (weights[large][:5], np.argwhere(large)[:5] * pace)


# Names.


@_battery.every_balancer
def test_the_heads_of_signals_and_state_are_compared(name):
    balancer, _, state = _battery.prepare(name)
    assert state.names == _cases.NAMES
    signals = _battery.make_signals(_battery.make_grads())
    known = signals._replace(names=B.Names(_cases.NAMES))
    jax.eval_shape(balancer.update, known, state)
    words = (
        rf"{label(name)}: signals: expected the names \['a', 'b', 'c'\], got "
        r"\['a', 'b', 'd'\]; missing \['c'\]; unknown \['d'\]"
    )
    with pytest.raises(ValueError, match=words):
        balancer.update(signals._replace(names=B.Names(["a", "b", "d"])), state)
    if "grads" in _cases.CASES[name].signals:
        other = _battery.make_grads(("a", "b", "d"))
        with pytest.raises(ValueError, match=r"signals\.grads of the 3 heads .*'d'\]"):
            balancer.update(signals._replace(grads=other), state)


@_battery.every_balancer
def test_the_state_of_another_balancer_is_named(name):
    balancer, _, _ = _battery.prepare(name)
    signals = _battery.make_signals(_battery.make_grads())
    other = "scheduled" if label(name) == "constant" else "constant"
    states = {rf"that of {other}": _cases.make(other).init(_cases.NAMES)}
    states["an object of type dict"] = {"weights": jnp.ones(3)}
    for got, state in states.items():
        words = f"{label(name)}: expected the state of its own init, got {got}"
        with pytest.raises(TypeError, match=words):
            balancer.update(signals, state)
        if balancer.due is not None:
            with pytest.raises(TypeError, match=words):
                balancer.due(state)


def test_methods_that_share_a_kind_of_state_are_told_apart():
    """The state holds the preferences: that of another method has other ones."""
    state = B.upgrad({"a": 1.0, "b": 5.0}).init(["a", "b"])
    with pytest.raises(TypeError, match=r"mgda: .* got that of upgrad"):
        B.mgda().update(hw.Signals(jnp.ones(2), jnp.eye(2)), state)


def test_weights_that_are_schedules_go_to_scheduled():
    ramp = {"a": 1.0, "b": _case.RAMP}
    with pytest.raises(TypeError, match=r"weights\['b'\]: .*hw\.balancers\.scheduled"):
        B.constant(ramp)
    B.scheduled(ramp)


# Buffers.


@_battery.every_balancer
def test_no_two_leaves_share_a_buffer(name):
    """So that a jitted step may donate its state."""
    for balancer in (_cases.make(name), _cases.make_plain(name)):
        leaves = jax.tree.leaves(_battery.start(name, balancer, _cases.NAMES))
        pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
        assert len(set(pointers)) == len(pointers)


# Settings: what the user says.


@_battery.every_balancer
def test_settings_are_the_fields_that_the_user_gave(name):
    _, update, first = _battery.prepare(name)
    last = first
    for seed in range(20):
        _, last = update(_battery.problem(seed), last)
    # The same options for heads in another order.
    others = ("1c", "2a", "3b")
    other = _battery.start(name, _cases.make(name, others), others)
    states = map(_battery.library_states, (first, last, other))
    for before, after, permuted in zip(*states, strict=True):
        declared = getattr(type(before), "settings", ())
        assert isinstance(declared, tuple)
        fields = zip(before._fields, before, after, permuted, strict=True)
        for field, a, b, c in fields:
            if field == "names" or hasattr(a, "names"):
                continue
            stays, given = same(a, b), not same(a, c)
            assert stays or field not in declared, f"{field} is learned"
            assert not (stays and given) or field in declared, f"{field} is given"


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# Dtypes.


@_battery.every_balancer
def test_dtypes_are_promoted_nowhere(name):
    """With strict promotion, and with float64 allowed: no recompile, scan goes."""
    balancer, _, state = _battery.prepare(name)
    signals = _battery.make_signals(_battery.make_grads())
    # As a step in which some head is absent: nothing is left out.
    signals = signals._replace(present=jnp.array([True, False, True]))
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(balancer.update, signals, state)
    with jax.enable_x64(True):
        decision, new = jax.eval_shape(balancer.update, signals, state)
    assert decision.weights.dtype == jnp.float32
    assert _battery.shapes(new) == _battery.shapes(state)
