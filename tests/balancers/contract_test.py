"""One battery of tests for every balancer in `hw.balancers`.

A new factory needs one entry in CASES, or `test_every_balancer_has_an_entry` fails.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ("a", "b", "c")
NOT_BALANCERS = {"Balancer", "Decision", "Signals", "presence"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A balancer for some heads, by their names, and what it must be shown."""

    make: Callable[[tuple[str, ...]], hw.balancers.Balancer]
    signals: tuple[str, ...] = ()
    signed: bool = False
    """Weights may be negative."""
    random: bool = False
    """Draws by the position of a head: equal in distribution when heads are renamed or
    absent, which its own test shows."""
    primary: str = ""
    """A head without which it does nothing."""
    label: str = ""
    """Pattern of the name in its errors, if not its own: an inner balancer's."""
    params: bool = False
    """Its state is shaped like the params, which `init` must be given."""


# What a head gets goes by the last letter of its name, so that heads can be renamed.
RAMP = optax.linear_schedule(0.5, 2.0, 10)
WEIGHTS = {"a": 0.5, "b": 1.5, "c": 2.5}
SCHEDULES = {"a": 0.5, "b": RAMP, "c": optax.cosine_decay_schedule(3.0, 10)}
LEAK = {"a": 0.0, "b": 0.25, "c": 0.5}
KINDS = {"a": "regression", "b": "classification", "c": "regression"}
PREFERENCES = {"a": 0.5, "b": 2.0, "c": 1.0}
REFERENCE = {"a": 0.1, "b": -0.2, "c": 0.3}


def by_letter(options, names):
    return {name: options[name[-1]] for name in names}


def sum_of_squares(values, preferences, present):
    return jnp.sum(jnp.where(present, preferences * values**2, 0.0))


def wanted(names):
    """Preferences and a reference point."""
    return by_letter(PREFERENCES, names), by_letter(REFERENCE, names)


CASES = {
    "aligned_mtl": Case(lambda names: hw.balancers.aligned_mtl(), ("gram",), True),
    "cagrad": Case(lambda names: hw.balancers.cagrad(), ("gram",)),
    "config": Case(lambda names: hw.balancers.config(), ("gram",), True),
    "db_mtl": Case(lambda names: hw.balancers.db_mtl(), ("grads",), params=True),
    "dualproj": Case(lambda names: hw.balancers.dualproj(), ("gram",)),
    "epo": Case(
        lambda names: hw.balancers.epo(by_letter(PREFERENCES, names)), ("gram",)
    ),
    "excess_mtl": Case(
        lambda names: hw.balancers.excess_mtl(1.0), ("grads",), params=True
    ),
    "fairgrad": Case(lambda names: hw.balancers.fairgrad(2.0), ("gram",)),
    "gradnorm": Case(lambda names: hw.balancers.gradnorm(), ("gram",)),
    "gradvac": Case(
        lambda names: hw.balancers.gradvac(), ("gram", "key"), True, random=True
    ),
    "imtl": Case(lambda names: hw.balancers.imtl(), ("gram",), True),
    "imtl_g": Case(lambda names: hw.balancers.imtl_g(), ("gram",), True),
    "krum": Case(lambda names: hw.balancers.krum(0, 2), ("gram",)),
    "moco": Case(lambda names: hw.balancers.moco(), ("grads",), params=True),
    "modo": Case(lambda names: hw.balancers.modo(), ("gram",)),
    "nash_mtl": Case(lambda names: hw.balancers.nash_mtl(), ("gram",)),
    "pcd": Case(
        lambda names: hw.balancers.pcd(max(names, key=lambda n: n[-1])),
        ("gram",),
        primary="c",
    ),
    "pcgrad": Case(lambda names: hw.balancers.pcgrad(), ("gram", "key"), random=True),
    "pmgda": Case(
        lambda names: hw.balancers.pmgda(by_letter(PREFERENCES, names)), ("gram",), True
    ),
    "sdmgrad": Case(lambda names: hw.balancers.sdmgrad(), ("gram",)),
    "trimmed_mean": Case(lambda names: hw.balancers.trimmed_mean(), ("grads",)),
    "upgrad": Case(
        lambda names: hw.balancers.upgrad(by_letter(WEIGHTS, names)), ("gram",)
    ),
    "clipped": Case(
        lambda names: hw.balancers.clipped(hw.balancers.mgda(), 0.1, 0.5),
        ("gram",),
        label="mgda",
    ),
    "constant": Case(
        lambda names: hw.balancers.constant(by_letter(WEIGHTS, names)),
    ),
    "cosmos": Case(
        lambda names: hw.balancers.cosmos(0.5, by_letter(PREFERENCES, names)),
        signed=True,
    ),
    "cr_mogm": Case(
        lambda names: hw.balancers.cr_mogm(hw.balancers.mgda()),
        ("gram",),
        label="(cr_mogm|mgda)",
    ),
    "dwa": Case(lambda names: hw.balancers.dwa()),
    "equal": Case(lambda names: hw.balancers.equal(), label="constant"),
    "every": Case(lambda names: hw.balancers.every(1, hw.balancers.mgda()), ("gram",)),
    "fallback": Case(  # the same among those that are there: nothing else changes
        lambda names: hw.balancers.fallback(hw.balancers.mgda(), hw.balancers.mgda()),
        ("gram",),
        label="mgda",
    ),
    "famo": Case(
        lambda names: hw.balancers.famo(False, by_letter(REFERENCE, names)),
    ),
    "gls": Case(lambda names: hw.balancers.gls()),
    "go4align": Case(lambda names: hw.balancers.go4align(2, 0.1)),
    "graddrop": Case(
        lambda names: hw.balancers.graddrop(by_letter(LEAK, names)),
        ("grads", "key"),
    ),
    "imtl_l": Case(lambda names: hw.balancers.imtl_l(optax.adam(0.1))),
    "ldc": Case(lambda names: hw.balancers.ldc(optimizer=optax.adam(0.1))),
    "mgda": Case(lambda names: hw.balancers.mgda(), ("gram",)),
    "p_norm": Case(
        lambda names: hw.balancers.p_norm(3.0, by_letter(PREFERENCES, names)),
    ),
    "pbi": Case(lambda names: hw.balancers.pbi(2.0, *wanted(names)), signed=True),
    "random_weighting": Case(
        lambda names: hw.balancers.random_weighting(), ("key",), random=True
    ),
    "relobralo": Case(lambda names: hw.balancers.relobralo(0.5, rho=0.5), ("key",)),
    "rescaled": Case(
        lambda names: hw.balancers.rescaled(hw.balancers.mgda()),
        ("gram",),
        label="mgda",
    ),
    "scalarization": Case(lambda names: hw.balancers.scalarization(sum_of_squares)),
    "scheduled": Case(
        lambda names: hw.balancers.scheduled(by_letter(SCHEDULES, names)), ("step",)
    ),
    "smoothed": Case(
        lambda names: hw.balancers.smoothed(hw.balancers.mgda(), 0.7),
        ("gram",),
        label="(smoothed|mgda)",
    ),
    "softadapt": Case(
        lambda names: hw.balancers.softadapt(1.0, normalized=True, loss_weighted=True),
    ),
    "stch": Case(lambda names: hw.balancers.stch(0.5, warm_up=1)),
    "stch_set": Case(lambda names: hw.balancers.stch_set(0.5)),
    "tchebycheff": Case(lambda names: hw.balancers.tchebycheff(*wanted(names))),
    "uncertainty": Case(
        lambda names: hw.balancers.uncertainty(
            by_letter(KINDS, names), optimizer=optax.adam(0.1)
        ),
    ),
    "uw_so": Case(lambda names: hw.balancers.uw_so(0.5)),
    "warm_up": Case(
        lambda names: hw.balancers.warm_up(hw.balancers.mgda(), 1),
        ("gram",),
        label="mgda",
    ),
    "with_preferences": Case(
        lambda names: hw.balancers.with_preferences(
            hw.balancers.mgda(), by_letter(PREFERENCES, names)
        ),
        ("gram",),
        label="(with_preferences|mgda)",
    ),
}

every_balancer = pytest.mark.parametrize("name", CASES)


def test_every_balancer_has_an_entry():
    factories = set(hw.balancers.__all__) - NOT_BALANCERS
    assert factories == set(CASES)
    for name, case in CASES.items():
        assert isinstance(case.make(NAMES), hw.balancers.Balancer)
        assert callable(getattr(hw.balancers, name))


def make_grads(names=NAMES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {
            "w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
            "b": jnp.asarray(rng.normal(size=3), jnp.float32),
        }
        for name in names
    }


def make_signals(grads, present=None, seed=0, dtype=jnp.float32):
    """All signals of a problem, as a step would hand them over."""
    values = np.random.default_rng(seed).uniform(0.5, 2.0, size=len(grads))
    grads = jax.tree.map(lambda g: jnp.asarray(g, dtype), grads)
    rows = [
        np.concatenate([np.ravel(np.float64(g)) for g in jax.tree.leaves(grads[n])])
        for n in sorted(grads)
    ]
    gram = np.stack(rows) @ np.stack(rows).T
    return hw.balancers.Signals(
        values=jnp.asarray(values, dtype),
        gram=jnp.asarray(gram, jnp.float32),
        grads=grads,
        step=jnp.int32(3),
        key=jax.random.key(seed),
        present=present,
    )


def start(name, balancer, names, params=None):
    """A state, made with the params (those of `make_grads`) if it takes them."""
    if not CASES[name].params:
        return balancer.init(names)
    return balancer.init(names, make_grads(("a",))["a"] if params is None else params)


@functools.cache
def prepare(name, names=NAMES):
    balancer = CASES[name].make(names)
    return balancer, jax.jit(balancer.update), start(name, balancer, names)


def assert_same(got, expected, rtol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def shapes(tree):
    return jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), tree)


@every_balancer
def test_state_is_a_named_tuple_and_stays_as_it_is(name):
    balancer, update, state = prepare(name)
    assert hasattr(state, "_fields")
    signals = make_signals(make_grads())
    decision, new = update(signals, state)
    assert shapes(new) == shapes(state)
    assert shapes(start(name, balancer, reversed(NAMES))) == shapes(state)
    assert decision.weights.shape == (3,)
    assert decision.weights.dtype == jnp.float32
    assert (decision.direction is not None) == (balancer.needs == "grads")
    assert balancer.needs in ("values", "gramian", "grads")

    @jax.jit
    def loop(state):
        def refresh(step, state, _):
            decision, state = balancer.update(signals._replace(step=step), state)
            return state, decision.weights

        def keep(step, state, weights):
            return state, weights

        def body(carry, step):
            carry = jax.lax.cond(step < 4, refresh, keep, step, *carry)
            return carry, carry[1]

        (state, _), weights = jax.lax.scan(body, (state, jnp.zeros(3)), jnp.arange(5))
        return state, weights

    after, weights = loop(state)
    assert shapes(after) == shapes(state)
    for step in range(4):
        decision, state = update(signals._replace(step=jnp.int32(step)), state)
        assert_same(weights[step], decision.weights, 1e-5)  # float32, fused or not
    np.testing.assert_array_equal(weights[4], weights[3])


@every_balancer
def test_init_under_eval_shape(name):
    balancer = CASES[name].make(NAMES)
    shape = jax.eval_shape(lambda: start(name, balancer, NAMES))
    assert shapes(shape) == shapes(start(name, balancer, NAMES))
    params = {
        "w": jax.ShapeDtypeStruct((2, 3), jnp.float32),
        "b": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    assert shapes(balancer.init(NAMES, params)) == shapes(shape)


@every_balancer
def test_second_call_does_not_recompile(name):
    balancer, _, state = prepare(name)
    traces = []

    @jax.jit
    def update(signals, state):
        traces.append(name)
        return balancer.update(signals, state)

    _, state = update(make_signals(make_grads()), state)
    other = make_signals(make_grads(seed=1), seed=1)._replace(step=jnp.int32(4))
    update(other, state)
    assert len(traces) == 1


@every_balancer
def test_no_host_callback_and_full_precision(name):
    balancer, _, state = prepare(name)
    text = str(jax.make_jaxpr(balancer.update)(make_signals(make_grads()), state))
    assert "callback" not in text
    # Accelerators round the factors of a product at any lower precision.
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST")


@every_balancer
def test_one_head(name):
    _, update, state = prepare(name, ("a",))
    grads = make_grads(("a",))
    decision, _ = update(make_signals(grads), state)
    assert decision.weights.shape == (1,)
    assert decision.weights[0] > 0
    if CASES[name].params:  # an average that starts at 0: shorter, of one direction
        norms = [optax.tree.norm(g) for g in (decision.direction, grads["a"])]
        unit = jax.tree.map(lambda g: g * norms[1] / norms[0], decision.direction)
        assert_same(unit, grads["a"])
    elif decision.direction is not None:
        assert_same(decision.direction, grads["a"])
    for leaf in jax.tree.leaves((decision, state)):
        assert np.isfinite(leaf).all()


repeatable_balancer = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not case.random]
)


@repeatable_balancer
@pytest.mark.parametrize("absent", NAMES)
def test_absent_head_gets_nothing_and_changes_nothing(name, absent):
    if absent == CASES[name].primary:
        pytest.skip("nothing is left to compare with")
    here = [i for i, n in enumerate(NAMES) if n != absent]
    _, update, state = prepare(name)
    rest = tuple(n for n in NAMES if n != absent)
    _, update_rest, state_rest = prepare(name, rest)
    for step in range(3):
        grads = make_grads(seed=step)
        # What an absent head is said to be must not matter, not even NaN.
        grads[absent] = jax.tree.map(lambda g: g * jnp.nan, grads[absent])
        all_of_them = make_signals(grads, jnp.array([n != absent for n in NAMES]))
        alone = make_signals({n: grads[n] for n in rest})
        alone = alone._replace(values=all_of_them.values[np.array(here)])
        values = all_of_them.values.at[NAMES.index(absent)].set(jnp.nan)
        got, state = update(all_of_them._replace(values=values), state)
        want, state_rest = update_rest(alone, state_rest)
        assert got.weights[NAMES.index(absent)] == 0
        assert_same(got.weights[np.array(here)], want.weights, 1e-5)
        assert_same(got.direction, want.direction, 1e-5)


@every_balancer
def test_all_absent_is_finite(name):
    _, update, state = prepare(name)
    signals = make_signals(make_grads(), jnp.zeros(3, bool))
    decision, new = update(signals, state)
    np.testing.assert_array_equal(decision.weights, 0.0)
    for leaf in jax.tree.leaves((decision.direction, new)):
        assert np.isfinite(leaf).all()


@repeatable_balancer
def test_renaming_heads_permutes_the_weights(name):
    """Heads a, b, c as c', a', b': each keeps what it gets."""
    order = [2, 0, 1]  # of the new rows, as old rows
    new = {NAMES[o]: f"{i}{NAMES[o]}" for i, o in enumerate(order)}
    _, first, state = prepare(name)
    _, second, state_permuted = prepare(name, tuple(new.values()))
    grads = make_grads()
    signals = make_signals(grads)
    permuted = make_signals({new[n]: grads[n] for n in NAMES})
    permuted = permuted._replace(values=signals.values[np.array(order)])
    for _ in range(2):
        got, state = first(signals, state)
        want, state_permuted = second(permuted, state_permuted)
        assert_same(got.weights[np.array(order)], want.weights, 1e-5)
        assert_same(got.direction, want.direction, 1e-5)


@every_balancer
def test_vmap_over_problems_is_a_loop(name):
    balancer, update, state = prepare(name)
    problems = [make_signals(make_grads(seed=k), seed=k) for k in range(3)]
    states = [update(p, state)[1] for p in problems]  # three different ones

    def stack(*trees):
        return jax.tree.map(lambda *a: jnp.stack(a), *trees)

    got = jax.jit(jax.vmap(balancer.update))(stack(*problems), stack(*states))
    want = stack(*(update(p, s) for p, s in zip(problems, states, strict=True)))
    assert_same(got, want, 1e-5)  # float32: batched products may add in another order


@every_balancer
def test_bfloat16_signals(name):
    _, update, state = prepare(name)
    signals = make_signals(make_grads(), dtype=jnp.bfloat16)
    decision, new = update(signals, state)
    assert shapes(new) == shapes(state)
    assert decision.weights.dtype == jnp.float32
    # The same numbers in float32: what is computed with them is as precise.
    wide = jax.tree.map(
        lambda a: a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a, signals
    )
    expected, _ = update(wide, state)
    if decision.direction is None:
        assert_same(decision.weights, expected.weights)
    else:
        # Other numbers are drawn nowhere (draws are float32), but sums are rounded
        # to bfloat16: 2^-8.
        assert_same(decision.weights, expected.weights, 2**-6)
        for leaf in jax.tree.leaves(decision.direction):
            assert leaf.dtype == jnp.bfloat16
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                np.float32(a), b, rtol=2**-6, atol=2**-6
            ),
            decision.direction,
            expected.direction,
        )


EDGES = {
    "zero": [[0.0, 0], [0, 0], [0, 0]],
    "one zero": [[0.0, 0], [1, 2], [2, -1]],
    "duplicate": [[1.0, 2], [1, 2], [1, 2]],
    "antiparallel": [[1.0, 2], [-1, -2], [-2, -4]],
    "tiny": [[1e-10, 2e-10], [-2e-10, 1e-10], [1e-10, -3e-10]],
    "huge": [[1e10, 2e10], [-2e10, 1e10], [1e10, -3e10]],
    "both": [[1e-10, 2e-10], [-2e10, 1e10], [1.0, -3.0]],
}


@every_balancer
@pytest.mark.parametrize("edge", EDGES)
def test_finite_at_the_edges(name, edge):
    balancer, update, _ = prepare(name)
    grads = {n: {"w": jnp.array(row)} for n, row in zip(NAMES, EDGES[edge])}
    state = start(name, balancer, NAMES, grads["a"])
    for values in (1.0, 0.0, 1e-10):
        signals = make_signals(grads)._replace(values=np.full(3, values, np.float32))
        decision, new = update(signals, state)
        for leaf in jax.tree.leaves((decision, new)):
            assert np.isfinite(leaf).all()
        assert CASES[name].signed or (decision.weights >= 0).all()


@every_balancer
def test_missing_signals_are_named(name):
    balancer, _, state = prepare(name)
    signals = make_signals(make_grads())
    for field in CASES[name].signals if name != "every" else ():  # it remembers weights
        label = CASES[name].label or name
        with pytest.raises(ValueError, match=rf"{label}: expected signals\.{field}"):
            jax.eval_shape(balancer.update, signals._replace(**{field: None}), state)
    # Nothing else is needed.
    others = {"gram", "grads", "step", "key"} - set(CASES[name].signals)
    jax.eval_shape(balancer.update, signals._replace(**dict.fromkeys(others)), state)


@every_balancer
def test_wrong_number_of_heads_is_named(name):
    balancer, _, state = prepare(name)
    right, other = make_signals(make_grads()), make_signals(make_grads(("a", "b")))
    label = CASES[name].label or name
    for field in {"values", *CASES[name].signals} & {"values", "gram", "grads"}:
        wrong = right._replace(**{field: getattr(other, field)})
        with pytest.raises(ValueError, match=rf"{label}: expected signals\.{field}.*3"):
            jax.eval_shape(balancer.update, wrong, state)
    with pytest.raises(
        ValueError, match=rf"{label}: expected signals\.present.*\(2,\)"
    ):
        balancer.update(right._replace(present=jnp.ones(2, bool)), state)


@every_balancer
def test_wrong_names_are_named(name):
    balancer = CASES[name].make(NAMES)
    with pytest.raises(TypeError, match="expected a sequence of names, got 'abc'"):
        balancer.init("abc")
    with pytest.raises(ValueError, match="duplicate names"):
        balancer.init(["a", "a", "b"])
    with pytest.raises(ValueError, match="at least one head"):
        balancer.init([])
    if CASES[name].params:
        with pytest.raises(ValueError, match=f"{name}: expected params, got None"):
            balancer.init(NAMES)
