"""Bilevel steps: one program for all, weights that serve the validation batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.training import _bilevel_cases


@pytest.mark.parametrize("name", list(_bilevel_cases.METHODS))
def test_one_program_scan_and_vmap(name):
    chex.clear_trace_counter()
    method, optimizer = _bilevel_cases.METHODS[name], optax.adam(0.05)
    step = hw.training.make_bilevel_step(
        _bilevel_cases.quadratics,
        optimizer,
        method,
        inner_optimizer=None,
        inner_steps=2,
    )
    seen = jax.jit(chex.assert_max_traces(step, n=1))
    rng = np.random.default_rng(0)
    drawn = jnp.asarray(rng.normal(size=(2, 5, 3)), jnp.float32)
    cases = [(t[0], tuple({"a": t[i], "b": t[i + 1]} for i in (1, 3))) for t in drawn]

    def begin(params):
        return hw.training.init_bilevel_state(["b", "a"], params, optimizer, method)

    finals, infos = [], []
    for params, batches in cases:
        state = begin(params)
        for _ in range(4):
            state, info = seen(state, batches)
        finals.append(state)
        infos.append(info)

    def four(params, batches):
        def one(state, _):
            return step(state, batches)

        return jax.lax.scan(one, begin(params), None, length=4)

    params, batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
    states, trail = jax.jit(jax.vmap(four))(params, batches)
    close = {"rtol": 2e-4, "atol": 2e-5}
    for i, (final, info) in enumerate(zip(finals, infos, strict=True)):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        keys = final.key, mine.key
        final, mine = final._replace(key=0), mine._replace(key=0)
        chex.assert_trees_all_close(mine, final, **close)
        assert jnp.all(jax.random.key_data(keys[0]) == jax.random.key_data(keys[1]))
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i, -1], trail.weights),
            info.weights,
            **close,
        )
    assert list(info.weights) == ["a", "b"] == list(info.valid_values)


def test_auto_lambda_ranks_a_helpful_above_a_harmful_head():
    """The primary head has no training signal of its own but through the others."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4)
    batches = jnp.asarray(rng.normal(size=(2, 200, 32, 4)), jnp.float32)

    def values_fn(p, batch):
        x, noise = batch
        y = x @ jnp.asarray(truth, jnp.float32)
        out = x @ p
        return {
            "primary": jnp.mean(jnp.square(out - y - noise)),
            "helps": jnp.mean(jnp.square(out - y)),
            "harms": jnp.mean(jnp.square(out + y)),
        }

    noise = jnp.asarray(rng.normal(size=(2, 200, 32)), jnp.float32)
    data = tuple((batches[i], noise[i]) for i in range(2))
    optimizer = optax.sgd(0.05)
    method = hw.training.auto_lambda(["primary"], 0.1, optax.adam(0.01), lower=0.0)
    step = hw.training.make_bilevel_step(values_fn, optimizer, method)
    names = ("primary", "helps", "harms")
    state = hw.training.init_bilevel_state(names, jnp.zeros(4), optimizer, method)
    state, info = jax.jit(lambda s: jax.lax.scan(step, s, data))(state)
    last = {n: float(w[-1]) for n, w in info.weights.items()}
    assert last["helps"] > 0.15 > 0.02 > last["harms"] >= 0.0
    assert np.linalg.norm(state.params - truth) < 0.2 * np.linalg.norm(truth)


# Training pulls θ to any point of the line from (0, 0) to (2, 0); of it the points with
# 0.5 <= θ_0 <= 1 are Pareto-optimal for these validation targets.
TRAIN = {"a": jnp.array([0.0, 0.0]), "b": jnp.array([2.0, 0.0])}
VALID = {"a": jnp.array([0.5, 0.3]), "b": jnp.array([1.0, -0.3])}


@pytest.mark.parametrize("name", ["moml", "forum"])
def test_reaches_a_pareto_stationary_point(name):
    optimizer = optax.sgd(0.05)
    if name == "moml":
        method = hw.training.moml(optax.sgd(0.3), normalized=False)
    else:
        method = hw.training.forum(1.0, optax.sgd(0.3))
    step = hw.training.make_bilevel_step(
        _bilevel_cases.quadratics,
        optimizer,
        method,
        inner_optimizer=optax.sgd(0.3),
        inner_steps=20,
    )
    state = hw.training.init_bilevel_state(
        ["a", "b"], jnp.array([0.3, 1.0]), optimizer, method
    )

    def run(logits):
        first = state._replace(upper=state.upper._replace(variables=logits))
        return jax.lax.scan(lambda s, _: step(s, (TRAIN, VALID)), first, None, 3000)

    starts = jnp.array([[1.5, -1.5], [-1.5, 1.5]])
    ends, infos = jax.jit(jax.vmap(run))(starts)
    slack = 0.02 if name == "moml" else 0.1  # FORUM penalises: its q is not quite 0
    for i in range(2):
        weights = infos.weights["b"][i]
        reached = 2 * weights[-1]  # where training with these weights ends
        assert abs(2 * weights[0] - reached) > 0.3
        assert 0.5 - slack < reached < 1.0 + slack
        assert np.abs(ends.params[i] - jnp.array([reached, 0.0])).max() < 2 * slack
        late = [np.mean(slopes[i, -200:]) for slopes in infos.slopes.values()]
        assert np.abs(late).max() < 0.01


def test_a_head_that_is_not_finite_leaves_the_weights_alone():
    def values_fn(params, factor):  # NaN on the validation batch alone
        total = jnp.sum(jnp.square(params["trunk"] - 1.0))
        return {"a": total * params["a"] ** 2, "b": total * factor}

    params = {"trunk": jnp.zeros(2), "a": jnp.ones(())}
    optimizer = optax.sgd(0.1)
    for name, method in (
        _bilevel_cases.METHODS | {"all": hw.training.auto_lambda()}
    ).items():
        step = hw.training.make_bilevel_step(values_fn, optimizer, method)
        state = hw.training.init_bilevel_state(["a", "b"], params, optimizer, method)
        new, info = jax.jit(step)(state, (1.0, jnp.nan))
        chex.assert_tree_all_finite((new.params, new.upper))
        assert np.isnan(info.valid_values["b"])
        if name == "all":
            chex.assert_trees_all_equal(new.upper, state.upper)
        else:  # b does not count
            assert (info.shares["a"], info.shares["b"]) == (1, 0)
            moved = not np.allclose(new.upper.variables, state.upper.variables)
            assert moved == (name != "forum")  # q falls without them there


@pytest.mark.parametrize("name", ["moml", "forum"])
def test_a_head_that_no_parameter_moves_has_no_say(name):
    """Its hypergradient is 0, the least norm there is; the others would get nothing."""

    def values_fn(params, batch):
        constant = {"z": 3.0 + jnp.sum(batch["a"])}
        return _bilevel_cases.quadratics(params, batch) | constant

    optimizer, method = optax.sgd(0.1), _bilevel_cases.METHODS[name]
    start = jnp.array([0.3, 1.0])
    step = hw.training.make_bilevel_step(values_fn, optimizer, method)
    state = hw.training.init_bilevel_state(["a", "b", "z"], start, optimizer, method)
    _, info = jax.jit(step)(state, (TRAIN, VALID))
    assert info.shares["z"] == 0
    np.testing.assert_allclose(info.shares["a"] + info.shares["b"], 1.0, rtol=1e-6)
    if name == "moml":  # else q, which is not the point here
        assert abs(info.slopes["a"]) > 1e-3


def test_stateful_model():
    def values_fn(params, rest, batch, key):
        drawn = jax.random.normal(key)
        value = jnp.square(params - batch - rest + 0 * drawn)
        return {"a": value, "b": value + drawn}, rest + batch

    optimizer = optax.sgd(0.1)
    for method in (hw.training.auto_lambda(["b"]), _bilevel_cases.METHODS["forum"]):
        step = hw.training.make_bilevel_step(
            values_fn, optimizer, method, stateful=True, inner_steps=2
        )
        state = hw.training.init_bilevel_state(
            ["a", "b"], jnp.array(1.0), optimizer, method, jnp.array(0.5)
        )
        run = jax.jit(step, donate_argnums=0)
        state, first = run(state, (2.0, 3.0))
        assert state.rest == 2.5  # that of the training batch, once
        state, second = run(state, (2.0, 3.0))
        drawn = [i.values["b"] - i.values["a"] for i in (first, second)]
        assert drawn[0] != drawn[1]
        assert state.step == 2


def test_bfloat16_parameters():
    params, batches = _bilevel_cases.make_case(np.float32)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    for method in (
        _bilevel_cases.METHODS["auto_lambda"],
        _bilevel_cases.METHODS["forum"],
    ):
        state, info = _bilevel_cases.one_step(method, params, batches)
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.bfloat16.dtype}
        chex.assert_tree_all_finite((state.params, state.upper, info))


def test_bad_input():
    training = hw.training
    with pytest.raises(ValueError, match="hypergradient: expected one of"):
        training.auto_lambda(hypergradient="exact")
    with pytest.raises(ValueError, match="epsilon: expected a positive number, got 0"):
        training.auto_lambda(epsilon=0)
    with pytest.raises(
        TypeError, match="primary: expected a sequence of names of heads, got"
    ):
        training.auto_lambda("a")
    with pytest.raises(ValueError, match="primary: expected at least one head"):
        training.auto_lambda([])
    with pytest.raises(ValueError, match="phi: expected a positive number, got -1"):
        training.forum(-1)
    with pytest.raises(
        ValueError, match="smoothing: expected a positive number, got 0"
    ):
        training.forum(smoothing=0.0)
    with pytest.raises(ValueError, match=r"smoothing: expected a number in \[0, 1\]"):
        training.forum(smoothing=1.5)
    for method in _bilevel_cases.METHODS.values():
        with pytest.raises(
            TypeError, match=r"names: expected a sequence of names .* got the str 'ab'"
        ):
            method.init("ab")
    with pytest.raises(ValueError, match=r"primary: unknown names \['z'\]"):
        training.auto_lambda(["z"]).init(_bilevel_cases.NAMES)
    with pytest.raises(ValueError, match=r"initial: expected the names .* missing"):
        training.auto_lambda(initial={"a": 1.0}).init(_bilevel_cases.NAMES)
    params, batches = _bilevel_cases.make_case(np.float32)
    method = training.auto_lambda(hypergradient="finite_difference")
    for steps in (0, 1.0, True):
        with pytest.raises(ValueError, match="inner_steps: expected a positive int"):
            _bilevel_cases.one_step(method, params, batches, inner_steps=steps)
    with pytest.raises(ValueError, match="inner_steps: expected 1 with hypergradient="):
        _bilevel_cases.one_step(method, params, batches, inner_steps=2)
    with pytest.raises(ValueError, match=r"expected \(train_batch, valid_batch\), got"):
        _bilevel_cases.one_step(method, params, batches[0][0])
    optimizer = optax.sgd(0.1)
    for name, method in _bilevel_cases.METHODS.items():
        state = training.init_bilevel_state(["a", "b"], params, optimizer, method)
        words = r"expected the names \['a', 'b'\], got .*; unknown"
        with pytest.raises(ValueError, match=rf"values_fn: {words}"):
            _bilevel_cases.one_step(method, params, batches, state)
        nameless = state._replace(names=None)
        with pytest.raises(ValueError, match=rf"{name}: values: {words}"):
            _bilevel_cases.one_step(method, params, batches, nameless)
        other = training.moml() if name == "forum" else training.forum()
        state = training.init_bilevel_state(
            _bilevel_cases.NAMES, params, optimizer, other
        )
        with pytest.raises(TypeError, match=rf"{name}: expected the state of its own"):
            _bilevel_cases.one_step(method, params, batches, state)

    def uneven(p, batch):
        return {n: p * 1.0 for n in batch}

    method = training.moml()
    step = training.make_bilevel_step(uneven, optimizer, method)
    state = training.init_bilevel_state(["a", "b"], 1.0, optimizer, method)
    with pytest.raises(ValueError, match=r"validation batch: .* missing \['b'\]"):
        step(state, ("ab", "a"))
