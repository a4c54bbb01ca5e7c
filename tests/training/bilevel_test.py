"""Bilevel steps: exact hypergradients, and weights that serve the validation batch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.training import _bilevel_forum

NAMES = ("a", "b", "c")


def values_fn(p, batch):
    x, y = batch
    h = jnp.tanh(x @ p["trunk"])
    return {
        "c": jnp.mean(jnp.square(h @ p["c"])),
        "a": jnp.mean(jnp.square(h @ p["a"] - y)),
        "b": jnp.mean(jnp.log(jnp.cosh(h @ p["b"] + y))),
    }


def make_case(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"trunk": (3, 4), "a": (4, 2), "b": (4, 2), "c": (4, 1)}
    params = {n: jnp.asarray(rng.normal(size=s), dtype) for n, s in shapes.items()}
    batches = tuple(
        (
            jnp.asarray(rng.normal(size=(6, 3)), dtype),
            jnp.asarray(rng.normal(size=(6, 2)), dtype),
        )
        for _ in range(2)
    )
    return params, batches


def looked_ahead(params, batches, inner, steps, weights):
    """[H] validation values after training with the weights: no derivative of it."""
    train_batch, valid_batch = batches
    state = inner.init(params)
    for _ in range(steps):
        grads = jax.grad(
            lambda p: sum(
                weights[i] * values_fn(p, train_batch)[n] for i, n in enumerate(NAMES)
            )
        )(params)
        updates, state = inner.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    found = values_fn(params, valid_batch)
    return jnp.stack([found[n] for n in NAMES])


def differences(function, at, size=1e-5):
    """[results, H] central differences."""
    columns = [
        (function(at + size * e) - function(at - size * e)) / (2 * size)
        for e in np.eye(len(at))
    ]
    return np.stack(columns, axis=-1)


INNER = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.sgd(0.2, momentum=0.9),
    "adam": optax.adam(0.05, eps_root=1e-8),
}


def one_step(method, params, batches, state=None, optimizer=None, **options):
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    step = hw.training.make_bilevel_step(values_fn, optimizer, method, **options)
    if state is None:
        state = hw.training.init_bilevel_state(NAMES, params, optimizer, method)
    return jax.jit(step)(state, batches)


@pytest.mark.parametrize(
    ("inner", "steps", "remat"),
    [("sgd", 1, False), ("sgd", 3, True), ("adam", 3, False)],
)
def test_auto_lambda_hypergradient_is_exact(inner, steps, remat):
    with jax.enable_x64(True):
        params, batches = make_case()
        initial = {"a": 0.5, "b": 1.0, "c": 0.2}
        method = hw.training.auto_lambda(["a", "c"], initial, optax.sgd(0.25))
        state, info = one_step(
            method,
            params,
            batches,
            inner_optimizer=INNER[inner],
            inner_steps=steps,
            remat=remat,
        )
        at = np.array([initial[n] for n in NAMES])

        @jax.jit
        def ahead(weights):
            return looked_ahead(params, batches, INNER[inner], steps, weights)

        want = differences(ahead, at)[[0, 2]].sum(axis=0)
        got = np.array([info.slopes[n] for n in NAMES])
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9)
        found = [info.valid_values[n] for n in NAMES]
        np.testing.assert_allclose(found, ahead(at), rtol=1e-10)
        np.testing.assert_allclose(state.upper.variables, at - 0.25 * got, rtol=1e-12)
        np.testing.assert_array_equal([info.shares[n] for n in NAMES], [1, 0, 1])
        # The model then steps along the training gradient of the new weights.
        grads = jax.grad(
            lambda p: sum(info.weights[n] * values_fn(p, batches[0])[n] for n in NAMES)
        )(params)
        moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        chex.assert_trees_all_close(state.params, moved, rtol=1e-10)


@pytest.mark.parametrize(("steps", "normalized"), [(1, True), (3, False)])
def test_moml_slopes_are_the_min_norm_of_exact_hypergradients(steps, normalized):
    with jax.enable_x64(True):
        params, batches = make_case()
        method = hw.training.moml(optax.sgd(0.5), normalized=normalized)
        optimizer = optax.sgd(0.1)
        state = hw.training.init_bilevel_state(NAMES, params, optimizer, method)
        logits = np.array([0.3, -0.2, 0.5])
        state = state._replace(upper=state.upper._replace(variables=logits))
        new, info = one_step(
            method,
            params,
            batches,
            state,
            inner_optimizer=INNER["sgd"],
            inner_steps=steps,
        )

        @jax.jit
        def ahead(z):
            weights = jax.nn.softmax(z)
            return looked_ahead(params, batches, INNER["sgd"], steps, weights)

        rows = differences(ahead, logits)
        if normalized:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        shares = jax.jit(hw.solvers.min_norm)(jnp.asarray(rows @ rows.T))
        got = np.array([info.slopes[n] for n in NAMES])
        np.testing.assert_allclose(got, shares @ rows, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(
            [info.shares[n] for n in NAMES], shares, rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(new.upper.variables, logits - 0.5 * got, rtol=1e-10)


@pytest.mark.parametrize("inner", ["momentum", "adam"])
def test_finite_differences_converge_to_the_exact_hypergradient(inner):
    def slopes(params, batches, epsilon=None):
        options = {"hypergradient": "finite_difference", "epsilon": epsilon}
        method = hw.training.auto_lambda(
            ["a"], 0.7, **({} if epsilon is None else options)
        )
        _, info = one_step(method, params, batches, inner_optimizer=INNER[inner])
        return jnp.stack([info.slopes[n] for n in NAMES])

    with jax.enable_x64(True):
        case = make_case()
        exact = slopes(*case)
        approximate = jax.jit(lambda epsilon: slopes(*case, epsilon))
        errors = [np.abs(approximate(e) - exact).max() for e in (0.1, 0.01, 0.001)]
        size = np.abs(exact).max()
        assert errors[1] < 1e-3 * size
        assert errors[2] < 1e-5 * size
        assert errors[1] < errors[0] / 50  # of second order
    if inner == "momentum":  # in float32 the paper's 0.01 is good for two digits
        found = slopes(*make_case(np.float32), 0.01)
        np.testing.assert_allclose(found, exact, rtol=1e-2, atol=1e-4)


def quadratics(params, batch):
    """Heads a, b: half the squared distance of θ to their targets in the batch."""
    return {n: jnp.sum(jnp.square(params - batch[n])) / 2 for n in ("a", "b")}


def test_closed_form_on_quadratics():
    """θ_1 = θ - r Σ w (θ - t), so dθ_1 / dw_h = -r (θ - t_h)."""
    theta, rate = jnp.array([1.0, -2.0]), 0.25
    train = {"a": jnp.array([0.0, 1.0]), "b": jnp.array([3.0, 0.0])}
    valid = {"a": jnp.array([0.5, 0.5]), "b": jnp.array([2.0, 0.0])}
    optimizer = optax.sgd(rate)
    weights = {"a": 0.5, "b": 2.0}
    for inner in (optimizer, None):
        for hypergradient in ("unrolled", "finite_difference"):
            method = hw.training.auto_lambda(
                initial=weights, hypergradient=hypergradient, lower=0.0
            )
            step = hw.training.make_bilevel_step(
                quadratics, optimizer, method, inner_optimizer=inner
            )
            state = hw.training.init_bilevel_state(["a", "b"], theta, optimizer, method)
            _, info = jax.jit(step)(state, (train, valid))
            moved = theta - rate * sum(
                w * (theta - train[n]) for n, w in weights.items()
            )
            toward = sum(moved - t for t in valid.values())
            for n in weights:
                want = -rate * np.dot(theta - train[n], toward)
                # the differences of values near 10 are in float32
                np.testing.assert_allclose(info.slopes[n], want, rtol=2e-3)
                half = np.sum(np.square(moved - valid[n])) / 2
                np.testing.assert_allclose(info.valid_values[n], half, rtol=1e-6)


METHODS = {
    "auto_lambda": hw.training.auto_lambda(["a"], 0.5, optax.adam(0.05)),
    "moml": hw.training.moml(optax.adam(0.05)),
    "forum": hw.training.forum(0.2, optax.adam(0.05)),
}


@pytest.mark.parametrize("name", list(METHODS))
def test_one_program_scan_and_vmap(name):
    chex.clear_trace_counter()
    method, optimizer = METHODS[name], optax.adam(0.05)
    step = hw.training.make_bilevel_step(
        quadratics, optimizer, method, inner_optimizer=None, inner_steps=2
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
        quadratics, optimizer, method, inner_optimizer=optax.sgd(0.3), inner_steps=20
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


def test_forum_direction_in_closed_form():
    """One head: ν makes <∇q, d> = phi |∇q|² where the plain gradient falls short."""
    theta = jnp.array([1.0, 2.0])
    train, valid = {"a": jnp.array([3.0, 2.0])}, {"a": jnp.array([0.0, 1.0])}

    def values_fn(params, batch):
        return {"a": jnp.sum(jnp.square(params - batch["a"])) / 2}

    q, g = np.array([-2.0, 0.0]), np.array([1.0, 1.0])
    optimizer = optax.sgd(1.0)
    for normalized in (False, True):
        method = hw.training.forum(0.5, normalized=normalized)
        step = hw.training.make_bilevel_step(values_fn, optimizer, method)
        state = hw.training.init_bilevel_state(["a"], theta, optimizer, method)
        state, info = jax.jit(step)(state, (train, valid))
        d = g / np.linalg.norm(g) if normalized else g
        d = d + (0.5 - d @ q / (q @ q)) * q
        np.testing.assert_allclose(d @ q, 0.5 * q @ q)
        np.testing.assert_allclose(state.params, theta - d, rtol=1e-5)
        assert info.shares["a"] == 1
        assert info.slopes["a"] == 0


shares_under_constraint = jax.jit(_bilevel_forum.shares_under_constraint)


def primal(rows, q, phi, direction):
    """What `forum` maximises, and whether its constraint holds."""
    level = np.min(rows @ direction) - direction @ direction / 2
    return level, direction @ q - phi * q @ q


@pytest.mark.parametrize("phi", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(6))
def test_forum_shares_have_no_duality_gap(seed, phi):
    rng = np.random.default_rng(seed)
    heads, size = (2, 8) if seed < 3 else (4, 3)  # more heads than dimensions too
    rows, q = rng.normal(size=(heads, size)), rng.normal(size=size) * 10.0 ** (seed - 2)
    with jax.enable_x64(True):
        shares = shares_under_constraint(
            jnp.asarray(rows @ rows.T), rows @ q, q @ q, phi, jnp.ones(heads, bool)
        )
    shares = np.asarray(shares)
    nu = max(phi - shares @ rows @ q / (q @ q), 0.0)
    d = shares @ rows + nu * q
    np.testing.assert_allclose(shares.sum(), 1.0)
    assert shares.min() >= 0
    level, slack = primal(rows, q, phi, d)
    dual = d @ d / 2 - nu * phi * q @ q
    assert slack > -1e-8 * (1 + q @ q)
    np.testing.assert_allclose(level, dual, rtol=1e-6, atol=1e-8)
    with np.errstate(all="raise"):
        single = shares_under_constraint(
            jnp.asarray(rows @ rows.T, jnp.float32),
            jnp.asarray(rows @ q, jnp.float32),
            jnp.asarray(q @ q, jnp.float32),
            phi,
            jnp.ones(heads, bool),
        )
    nu = max(phi - single @ rows @ q / (q @ q), 0.0)
    d = np.float64(single) @ rows + float(nu) * q
    np.testing.assert_allclose(primal(rows, q, phi, d)[0], level, rtol=1e-2, atol=1e-2)


def test_forum_without_a_constraint_is_min_norm():
    rows = jnp.array([[3.0, 1.0], [-2.0, 1.0], [0.0, 5.0]])
    gram = rows @ rows.T
    for present in ([True, True, True], [True, False, True]):
        flags = jnp.array(present)
        got = shares_under_constraint(gram, jnp.zeros(3), jnp.zeros(()), 0.1, flags)
        want = jax.jit(hw.solvers.min_norm)(gram, flags)
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_head_that_is_not_finite_leaves_the_weights_alone():
    def values_fn(params, factor):  # NaN on the validation batch alone
        total = jnp.sum(jnp.square(params["trunk"] - 1.0))
        return {"a": total * params["a"] ** 2, "b": total * factor}

    params = {"trunk": jnp.zeros(2), "a": jnp.ones(())}
    optimizer = optax.sgd(0.1)
    for name, method in (METHODS | {"all": hw.training.auto_lambda()}).items():
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


def test_stateful_model():
    def values_fn(params, rest, batch, key):
        drawn = jax.random.normal(key)
        value = jnp.square(params - batch - rest + 0 * drawn)
        return {"a": value, "b": value + drawn}, rest + batch

    optimizer = optax.sgd(0.1)
    for method in (hw.training.auto_lambda(["b"]), METHODS["forum"]):
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
    params, batches = make_case(np.float32)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    for method in (METHODS["auto_lambda"], METHODS["forum"]):
        state, info = one_step(method, params, batches)
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.bfloat16.dtype}
        chex.assert_tree_all_finite((state.params, state.upper, info))


def test_bad_input():
    training = hw.training
    with pytest.raises(ValueError, match="hypergradient: expected one of"):
        training.auto_lambda(hypergradient="exact")
    with pytest.raises(ValueError, match="epsilon: expected a positive number, got 0"):
        training.auto_lambda(epsilon=0)
    with pytest.raises(TypeError, match="primary: expected a sequence of names, got"):
        training.auto_lambda("a")
    with pytest.raises(ValueError, match="primary: expected at least one head"):
        training.auto_lambda([])
    with pytest.raises(ValueError, match="phi: expected a positive number, got -1"):
        training.forum(-1)
    with pytest.raises(ValueError, match=r"smoothing: expected a rate in \(0, 1\]"):
        training.forum(smoothing=0.0)
    for method in METHODS.values():
        with pytest.raises(TypeError, match="expected a sequence of names, got 'ab'"):
            method.init("ab")
    with pytest.raises(ValueError, match=r"primary: unknown names \['z'\]"):
        training.auto_lambda(["z"]).init(NAMES)
    with pytest.raises(ValueError, match=r"initial: expected the names .* missing"):
        training.auto_lambda(initial={"a": 1.0}).init(NAMES)
    params, batches = make_case(np.float32)
    method = training.auto_lambda(hypergradient="finite_difference")
    for steps in (0, 1.0, True):
        with pytest.raises(ValueError, match="inner_steps: expected a positive int"):
            one_step(method, params, batches, inner_steps=steps)
    with pytest.raises(ValueError, match="inner_steps: expected 1 with hypergradient="):
        one_step(method, params, batches, inner_steps=2)
    with pytest.raises(ValueError, match=r"expected \(train_batch, valid_batch\), got"):
        one_step(method, params, batches[0][0])
    optimizer = optax.sgd(0.1)
    for name, method in METHODS.items():
        state = training.init_bilevel_state(["a", "b"], params, optimizer, method)
        with pytest.raises(ValueError, match=f"{name}: expected 2 heads"):
            one_step(method, params, batches, state)

    def uneven(p, batch):
        return {n: p * 1.0 for n in batch}

    method = training.moml()
    step = training.make_bilevel_step(uneven, optimizer, method)
    state = training.init_bilevel_state(["a", "b"], 1.0, optimizer, method)
    with pytest.raises(ValueError, match=r"validation batch: .* missing \['b'\]"):
        step(state, ("ab", "a"))
