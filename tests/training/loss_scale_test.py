"""Loss scale: the same numbers where nothing is lost, and what float16 would lose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import headwise as hw
from headwise import _described
from tests.training import _bilevel_cases

of_bits = pytest.mark.optimized

B, T = hw.balancers, hw.training
NAMES = ("a", "b")
SGD = optax.sgd(0.1)
rng = np.random.default_rng(0)


def run_rule(loss_scale, finite):
    state, seen = loss_scale.init(), []
    for flag in finite:
        state, skip = loss_scale.update(state, jnp.asarray(flag))
        seen.append((float(state.scale), bool(skip)))
    return seen


def test_the_rule_by_hand():
    """Grows after `period` finite steps in a row, gives way at once, to the least."""
    rule = T.dynamic_loss_scale(8.0, period=2, least=2.0)
    finite = [True, True, True, False, True, False, False, False, True, True]
    assert run_rule(rule, finite) == [
        (8.0, False),
        (16.0, False),
        (16.0, False),
        (8.0, True),  # and the count begins anew
        (8.0, False),
        (4.0, True),
        (2.0, True),
        (2.0, False),  # at the least nothing is skipped
        (2.0, False),
        (4.0, False),
    ]
    # No farther than float32 can divide by.
    rule = T.dynamic_loss_scale(2.0**125, period=1)
    assert [scale for scale, _ in run_rule(rule, [True] * 3)] == [2.0**126] * 3


# In float32 with powers of 2 nothing is rounded otherwise.
SHAPES = {"trunk": (3, 4), "a": (4, 2), "b": (4, 2)}
PARAMS = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
X = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)


def noisy(params, rest, x, key):
    h = jnp.tanh(x @ params["trunk"] + 0.01 * jax.random.normal(key, (1, 4)))
    a = jnp.mean((h @ params["a"] - 1) ** 2)
    b = jnp.mean(jnp.abs(h @ params["b"] + 1))
    return hw.Means({"a": a, "b": b}, {"b": jnp.sum(x > 0)}), rest + 1


WAYS = {
    "default": (None, {}),
    "values": (B.uncertainty(), {"private": "own"}),
    "gramian": (B.imtl_g(), {"contributions": True}),
    "grads": (B.graddrop(), {}),
    "every": (B.every(2, B.imtl_g()), {"contributions": 2}),
    "after": (B.famo(), {"microbatches": 2}),
    "parts": (B.imtl_g(), {"microbatches": 2, "private": "own"}),
    "batches": (B.modo(batches=2), {}),
}


def two_steps(balancer, optimizer=SGD, loss_scale=None, **options):
    parts = optimizer, balancer
    step = T.make_step(noisy, *parts, stateful=True, loss_scale=loss_scale, **options)
    state = T.init_state(NAMES, PARAMS, *parts, jnp.int32(0), loss_scale=loss_scale)
    for _ in range(2):
        state, info = jax.jit(step)(state, X)
    return state, info


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, *map(as_numbers, (got, want)))


def as_numbers(tree):
    key = jax.dtypes.prng_key
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, key) else x, tree
    )


@pytest.mark.parametrize("way", WAYS)
def test_it_changes_nothing_but_rounding_of_what_float32_holds(way):
    """A power of two rounds nothing; but it is another program, compiled otherwise."""
    balancer, options = WAYS[way]
    want = two_steps(balancer, **options)
    state, info = two_steps(balancer, loss_scale=T.dynamic_loss_scale(), **options)
    assert state.loss_scale.steps == 2
    assert not info.skipped
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
    told = info._replace(skipped=None, loss_scale=None)
    got = state._replace(loss_scale=None), told
    jax.tree.map(close, as_numbers(got), as_numbers(want))


@of_bits
def test_of_optimizers():
    """One that asks for values itself, and one that gathers."""
    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=5)
    asks = optax.chain(optax.sgd(1.0), search)
    for optimizer in (asks, optax.MultiSteps(optax.adam(0.1), 2)):
        want, _ = two_steps(B.equal(), optimizer)
        got, _ = two_steps(B.equal(), optimizer, loss_scale=2.0**9)
        assert_equal(got, want)


def test_of_many_heads():
    """Heads that go as a stack."""
    names = [f"h{i:02}" for i in range(18)]
    params = {"trunk": PARAMS["trunk"]} | dict.fromkeys(names, PARAMS["a"])

    def values_fn(params, x):
        h = jnp.tanh(x @ params["trunk"])
        return {n: jnp.mean((h @ params[n] - i) ** 2) for i, n in enumerate(names)}

    def moved(scale):
        step = T.make_step(values_fn, SGD, B.imtl_g(), loss_scale=scale)
        state = T.init_state(names, params, SGD, B.imtl_g())
        return jax.jit(step)(state, X)[0].params

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        moved(2.0**9),
        moved(None),
    )


@pytest.mark.parametrize("name", _bilevel_cases.METHODS)
def test_of_a_bilevel_step(name):
    """Derivatives of derivatives too: the second ones are not scaled."""
    method = _bilevel_cases.METHODS[name]
    params, batches = _bilevel_cases.make_case(np.float32)
    run = functools.partial(_bilevel_cases.one_step, method, params, batches)
    want = run()
    scale = T.dynamic_loss_scale()
    state = T.init_bilevel_state(
        _bilevel_cases.NAMES, params, SGD, method, loss_scale=scale
    )
    state, info = run(state, loss_scale=scale)
    assert not info.skipped
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, state.params, want[0].params)
    jax.tree.map(close, info.slopes, want[1].slopes)
    # A batch that overflows on the way back moves neither weights nor parameters.
    huge = jax.tree.map(lambda x: x * 1e30, batches)
    after, info = _bilevel_cases.one_step(method, params, huge, state, loss_scale=scale)
    assert info.skipped
    assert_equal((after.upper, after.params), (state.upper, state.params))


@pytest.mark.parametrize("balancer", [B.equal(), B.imtl_g(), B.graddrop()])
def test_a_gradient_below_float16(balancer):
    """1e-4 * 1e-4 = 1e-8 and 2e-8, which are 0 there; without a jit: as written."""
    small = jnp.float16(1e-4)

    def values_fn(params, batch):
        w = params["w"].astype(jnp.float16)
        return {"a": w * batch * small, "b": w * (2 * batch) * small}

    def moved(scale):
        step = T.make_step(values_fn, optax.sgd(1.0), balancer, loss_scale=scale)
        state = T.init_state(
            NAMES, {"w": jnp.zeros(())}, optax.sgd(1.0), balancer, loss_scale=scale
        )
        state, info = step(state, small)
        return float(state.params["w"]), info

    assert moved(None)[0] == 0.0
    for scale in (2.0**12, T.dynamic_loss_scale()):
        got, info = moved(scale)
        # Three roundings of 2^-11, and a weight of each head.
        weights = [float(info.weights[n]) for n in NAMES]
        want = -(float(small) ** 2) * (weights[0] + 2 * weights[1])
        assert got < 0
        if balancer.needs != "grads":
            np.testing.assert_allclose(got, want, rtol=3 * 2.0**-11)


def half(x):
    """Rounded as float16 holds it, also where a compiler would keep more."""
    return lax.reduce_precision(x, 5, 10)


def overflowing(params, rest, batch, key):
    """Head gradients are the batch: scaled by 2^14 a 4 is 65536, which is inf."""
    return {n: jnp.sum(half(params["w"]) * batch[n]) for n in NAMES}, rest + 1


HUGE = {"a": jnp.array([4.0, 0.0]), "b": jnp.array([0.5, 0.5])}
LATE = optax.MultiSteps(optax.adam(0.1), 2)
STARTS = {
    "equal": (B.equal(), SGD),
    "uncertainty": (B.uncertainty(), optax.adam(0.1)),
    "imtl_g": (B.imtl_g(), SGD),
    "every": (B.every(2, B.nash_mtl()), SGD),
    "MultiSteps": (B.graddrop(), LATE),
}


def start(parts, scale):
    return T.init_state(
        NAMES, {"w": jnp.ones(2)}, parts[1], parts[0], jnp.int32(0), loss_scale=scale
    )


@of_bits
@pytest.mark.parametrize("name", STARTS)
def test_a_step_that_overflows_is_skipped_whole(name):
    """Also where a balancer would leave out the head and go on without it."""
    parts = STARTS[name]
    rule = T.dynamic_loss_scale(2.0**15)
    make = functools.partial(
        T.make_step, overflowing, parts[1], parts[0], stateful=True, contributions=True
    )
    step = jax.jit(make(loss_scale=rule))
    state = start(parts, rule)
    for number, scale in enumerate([2.0**15, 2.0**14]):
        before, (state, info) = state, step(state, HUGE)
        assert (info.skipped, info.loss_scale) == (True, scale)
        assert np.isnan(info.contributions.share).all()
        assert (state.step, state.loss_scale.scale) == (number + 1, scale / 2)
        kept = before._replace(step=state.step, loss_scale=state.loss_scale)
        assert_equal(state, kept)
    state, info = step(state, HUGE)
    assert not info.skipped
    assert (state.rest, state.loss_scale.steps) == (1, 1)
    np.testing.assert_array_equal([*info.values.values()], [4.0, 1.0])
    # At the least scale, and with a fixed one, it is as without.
    rule = T.dynamic_loss_scale(2.0**15, least=2.0**15)
    for scale in (rule, 2.0**15):
        _, info = jax.jit(make(loss_scale=scale))(start(parts, scale), HUGE)
        assert not info.skipped
        if parts[0].needs != "values":
            assert info.broken["a"]
            assert not info.present["a"]


@of_bits
def test_fit_counts_what_was_skipped_and_resumes_exactly(tmp_path):
    """A head that overflows is broken for `imtl_g`, and nothing is said of that."""
    rule = T.dynamic_loss_scale(2.0**15, period=3)

    @functools.cache  # one step is one program, in all runs of it
    def make(rule, parts):
        return T.make_step(
            overflowing, parts[1], parts[0], stateful=True, loss_scale=rule
        )

    def run(steps, workdir, rule=rule, parts=STARTS["imtl_g"], **options):
        return T.fit(
            make(rule, parts),
            start(parts, rule),
            lambda t: HUGE,
            steps,
            workdir=workdir,
            log_every=4,
            checkpoint_every=None if workdir is None else 1,
            progress=False,
            **options,
        )

    state, history = run(8, tmp_path / "whole")
    # 2 skipped, 3 good ones, then it grows and is one too many; 2^13 once more.
    assert [record.get("skipped") for record in history] == [2, 1]
    assert [record["loss_scale"] for record in history] == [2.0**13, 2.0**13]
    assert state.rest == 5
    assert not any("broken" in record for record in history)
    assert all(record["grad_norm"] > 0 for record in history)
    assert set(history[0]["values"]) == set(NAMES)
    for steps in (1, 2, 5, 8):
        again, records = run(steps, tmp_path / "parts")
    assert_equal(again, state)
    assert [r for r in records if r["step"] in (4, 8)] == history
    for chunk in (1, 8):
        again, records = run(8, None, chunk=chunk)
        assert_equal(again, state)
        assert records == history
    # All of a record: there are no means.
    _, (only,) = run(2, None)
    assert (only["skipped"], only["grad_norm"], only["values"]["a"]) == (2, None, None)
    # At the least one: what it would be without, here an error.
    with pytest.raises(T.NonFiniteError, match="step 1: the gradient is not finite"):
        run(2, None, T.dynamic_loss_scale(2.0**15, least=2.0**14), STARTS["equal"])


def test_without_one_a_state_is_as_it_was():
    """So that checkpoints of before are those of a state of now."""
    state = T.init_state(NAMES, PARAMS, SGD, B.equal(), loss_scale=2.0**15)
    told = _described.describe(state)
    assert not [name for part in told.values() for name in part if "loss" in name]


def test_members_of_a_cohort_have_their_own():
    parts = STARTS["imtl_g"]
    rule = T.dynamic_loss_scale(2.0**15)
    step = T.make_step(overflowing, parts[1], parts[0], stateful=True, loss_scale=rule)
    batches = jax.tree.map(lambda x: jnp.stack([x, x / 4]), HUGE)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), start(parts, rule))
    states, info = jax.jit(jax.vmap(step))(states, batches)
    assert info.skipped.tolist() == [True, False]
    assert states.loss_scale.scale.tolist() == [2.0**14, 2.0**15]
    assert states.rest.tolist() == [0, 1]
