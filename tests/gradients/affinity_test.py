"""Affinity: by hand, against plain NumPy, and the two methods against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

RATE = 0.1
OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": optax.adam,
}
HEADS = ("y1", "y2", "y3")


def values_fn(params, x, targets):
    h = jnp.tanh(x @ params["trunk"])
    return {
        name: jnp.mean(jnp.square(h @ params["out"][name] - targets[name]))
        for name in reversed(HEADS)
    }


def make_problem(seed=0, dtype=np.float64):
    """Parameters, inputs and targets: one tanh layer and a readout for each head."""
    rng = np.random.default_rng(seed)
    params = {
        "out": {name: rng.normal(size=4).astype(dtype) for name in HEADS},
        "trunk": (0.5 * rng.normal(size=(3, 4))).astype(dtype),
    }
    x = rng.normal(size=(5, 3)).astype(dtype)
    return params, x, {name: rng.normal(size=5).astype(dtype) for name in HEADS}


def trained(optimizer, params, x, targets, steps=3):
    """Parameters and a state that remembers some steps."""

    def total(p):
        return sum(values_fn(p, x, targets).values())

    @jax.jit
    def run(params):
        state = optimizer.init(params)
        for _ in range(steps):
            updates, state = optimizer.update(jax.grad(total)(params), state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    return run(params)


def forward(trunk, out, x, targets):
    h = np.tanh(x @ trunk)
    return np.array([np.mean((h @ out[n] - targets[n]) ** 2) for n in HEADS])


def backward(trunk, out, x, targets):
    """[H, 3, 4] gradients on the trunk, by the chain rule written out."""
    h = np.tanh(x @ trunk)
    rows = []
    for n in HEADS:
        residual = h @ out[n] - targets[n]
        of_h = 2 / len(x) * residual[:, None] * out[n][None, :]
        rows.append(x.T @ (of_h * (1 - h**2)))
    return np.stack(rows)


def numpy_update(name, state, grad):
    """The update of the trunk, from the formula of the optimiser."""
    if name == "sgd":
        return -RATE * grad
    if name == "momentum":
        return -RATE * (grad + 0.9 * np.asarray(state[0].trace["trunk"]))
    adam = state[0]
    t = int(adam.count) + 1
    first = 0.9 * np.asarray(adam.mu["trunk"]) + 0.1 * grad
    second = 0.999 * np.asarray(adam.nu["trunk"]) + 0.001 * grad**2
    first, second = first / (1 - 0.9**t), second / (1 - 0.999**t)
    return -RATE * first / (np.sqrt(second) + 1e-8)


def reference(name, method, relative, params, state, x, targets):
    trunk, out = np.asarray(params["trunk"]), jax.tree.map(np.asarray, params["out"])
    before = forward(trunk, out, x, targets)
    grads = backward(trunk, out, x, targets)
    table = np.empty((3, 3))
    for i in range(3):
        update = numpy_update(name, state, grads[i])
        if method == "measured":
            table[i] = before - forward(trunk + update, out, x, targets)
        else:
            table[i] = [-np.sum(g * update) for g in grads]
    return table / before if relative else table


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("method", ["measured", "predicted"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_against_numpy(name, method, relative):
    with jax.enable_x64(True):
        params, x, targets = make_problem()
        optimizer = OPTIMIZERS[name](RATE)
        params, state = trained(optimizer, params, x, targets)
        f = hw.affinity(values_fn, optimizer, method, relative=relative)
        values, got = jax.jit(f)(params, state, x, targets)
        expected = reference(name, method, relative, params, state, x, targets)
        assert list(values) == list(HEADS)
        assert got.dtype == jnp.float64
        # float64 rounding; a difference of two values is of order 0.1.
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_prediction_is_the_first_order_of_the_measurement(name):
    with jax.enable_x64(True):
        params, x, targets = make_problem(1)
        params, state = trained(OPTIMIZERS[name](RATE), params, x, targets)
        rates = 2.0 ** -np.arange(10.0, 15.0)

        def table(rate, method):
            f = hw.affinity(values_fn, OPTIMIZERS[name](rate), method)
            return f(params, state, x, targets)[1]

        both = jax.vmap(lambda r: (table(r, "measured"), table(r, "predicted")))
        measured, predicted = jax.jit(both)(rates)
        gaps = np.abs((measured - predicted) / predicted)
        # The gap relative to the step is linear in the rate: halved with it, up to
        # higher orders, of about 0.5 % at the rate of 2^-10.
        np.testing.assert_allclose(gaps[:-1] / gaps[1:], 2.0, rtol=0.02)
        assert gaps[-1].max() < 0.01


def quadratics(params):
    return {"a": params["w"] ** 2, "b": (params["w"] - 3.0) ** 2}


def test_first_step_of_adam_by_hand():
    # Adam's first step is rate * sign(gradient): w = 1 goes to 0.75 for a and to
    # 1.25 for b; gradients 2 and -4, values 1 and 4.
    params, optimizer = {"w": jnp.array(1.0)}, optax.adam(0.25)
    state = optimizer.init(params)
    _, measured = hw.affinity(quadratics, optimizer)(params, state)
    expected = [[1 - 0.75**2, 1 - 2.25**2 / 4], [1 - 1.25**2, 1 - 1.75**2 / 4]]
    np.testing.assert_allclose(measured, expected, rtol=1e-5)
    _, predicted = hw.affinity(quadratics, optimizer, "predicted")(params, state)
    np.testing.assert_allclose(predicted, [[0.5, -0.25], [-0.5, 0.25]], rtol=1e-5)


def private_moves(params):
    """a and b share w and have a factor of their own each; c shares nothing."""
    return {
        "a": params["own_a"] * params["w"],
        "b": params["own_b"] * params["w"],
        "c": 5.0 * params["own_c"],
    }


def private_params(**others):
    base = {"own_a": 2.0, "own_b": 4.0, "own_c": 1.0, "w": 1.0} | others
    return {name: jnp.array(value) for name, value in base.items()}


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_only_shared_parameters_are_moved(method):
    params, optimizer = private_params(), optax.sgd(0.125)
    f = jax.jit(hw.affinity(private_moves, optimizer, method, relative=False))
    _, got = f(params, optimizer.init(params))
    # a moves w by -0.25, b by -0.5; c moves nothing that is shared. All is linear.
    expected = [[0.5, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(got, expected)

    chosen = ("own_a", "own_c")
    flags = {name: name in chosen for name in params}
    for shared in (flags, lambda path: path in chosen):
        f = hw.affinity(private_moves, optimizer, method, relative=False, shared=shared)
        _, got = jax.jit(f)(params, optimizer.init(params))
        # own_a goes by -0.125 * w, own_c by -0.125 * 5.
        np.testing.assert_array_equal(got, np.diag([0.125, 0.0, 0.125 * 25]))


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_momentum_of_private_parameters_does_not_matter(method):
    params, optimizer = private_params(), optax.sgd(0.125, momentum=0.5)
    f = jax.jit(hw.affinity(private_moves, optimizer, method))
    state = optimizer.init(params)
    heavy = jax.tree.map(lambda m: m + 7.0, state)
    heavy[0].trace["w"] = state[0].trace["w"]
    np.testing.assert_array_equal(f(params, heavy)[1], f(params, state)[1])


def test_momentum_shifts_whole_columns():
    params, optimizer = private_params(), optax.sgd(0.125, momentum=0.5)
    f = jax.jit(hw.affinity(private_moves, optimizer, "predicted", relative=False))
    state = optimizer.init(params)
    heavy = jax.tree.map(lambda m: m + 8.0, state)
    shift = f(params, heavy)[1] - f(params, state)[1]
    # 0.125 * 0.5 * 8 in w, times the gradients 2, 4 and 0 of a, b and c.
    np.testing.assert_array_equal(shift, np.tile([1.0, 2.0, 0.0], (3, 1)))


def test_complex_parameters():
    def program(params):
        return {"a": jnp.square(jnp.abs(params["z"])), "b": params["z"].real}

    # JAX's gradient of a is 2 conj(z); the step needs its conjugate.
    conjugate = optax.stateless(lambda updates, _: jax.tree.map(jnp.conj, updates))
    optimizer = optax.chain(conjugate, optax.sgd(0.25))
    params = {"z": jnp.array(1.0 + 2.0j)}
    # a moves z to 0.5 + 1j, b to 0.75 + 2j, from |z|^2 = 5 and a real part of 1.
    expected = {
        "measured": [[3.75, 0.5], [0.4375, 0.25]],
        "predicted": [[5.0, 0.5], [0.5, 0.25]],
    }
    for method, table in expected.items():
        f = hw.affinity(program, optimizer, method, relative=False)
        _, got = jax.jit(f)(params, optimizer.init(params))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, table, rtol=1e-5)


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_all_parameters_are_moved_if_none_is_shared(method):
    def alone(params):
        return {"only": params["u"] ** 2 + params["v"]}

    params, optimizer = {"u": 3.0, "v": 0.0}, optax.sgd(0.5)
    f = hw.affinity(alone, optimizer, method)
    _, got = jax.jit(f)(params, optimizer.init(params))
    # gradient (6, 1): u goes to 0 and v to -0.5, first order 0.5 * 37.
    expected = {"measured": 9.5 / 9, "predicted": 18.5 / 9}[method]
    np.testing.assert_allclose(got, [[expected]], rtol=1e-6)


def test_whole_gradient_goes_into_the_optimiser():
    params = private_params(own_a=3.0, own_b=0.0, w=4.0)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0))
    f = jax.jit(hw.affinity(private_moves, optimizer, "predicted", relative=False))
    _, got = f(params, optimizer.init(params))
    # The gradient of a is (own_a: 4, w: 3), of length 5: w moves by 3 / 5.
    np.testing.assert_allclose(got[0], [9 / 5, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_state_is_read_and_not_advanced(method):
    params, x, targets = make_problem(dtype=np.float32)
    optimizer = optax.adam(RATE)
    params, state = trained(optimizer, params, x, targets)
    kept = jax.tree.map(np.array, state)
    f = jax.jit(hw.affinity(values_fn, optimizer, method))
    first, again = (f(params, state, x, targets)[1] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, state, kept)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_eager_jit_vmap_and_loop_agree(method):
    problems = [make_problem(seed, np.float32) for seed in range(3)]
    optimizer = optax.adam(RATE)
    states = [trained(optimizer, *problem)[1] for problem in problems]
    f = hw.affinity(values_fn, optimizer, method)
    many = jax.tree.map(lambda *a: np.stack(a), *problems)
    state = jax.tree.map(lambda *a: np.stack(a), *states)
    params, x, targets = many
    together = jax.jit(jax.vmap(f))(params, state, x, targets)[1]
    assert together.shape == (3, 3, 3)
    assert together.dtype == jnp.float32
    for k, (one, x, targets) in enumerate(problems):
        alone = f(one, states[k], x, targets)[1]
        # float32: values of order 1 are subtracted, 2^-23 each, fused or not.
        np.testing.assert_allclose(together[k], alone, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_scan_over_training_is_the_loop(method):
    params, x, targets = make_problem(dtype=np.float32)
    batches = jnp.stack([x * scale for scale in (1.0, 0.5, -1.0, 2.0)])
    optimizer = optax.adam(RATE)
    f = hw.affinity(values_fn, optimizer, method)
    step = hw.training.make_step(lambda p, b: values_fn(p, b, targets), optimizer)
    balancer = hw.balancers.equal()
    start = hw.training.init_state(HEADS, params, optimizer, balancer)

    def body(state, batch):
        table = f(state.params, state.optimizer, batch, targets)[1]
        return step(state, batch)[0], table

    end, tables = jax.jit(lambda s: jax.lax.scan(body, s, batches))(start)
    mean = jnp.mean(tables, axis=0)
    one, state, total = jax.jit(body), start, np.zeros((3, 3))
    for batch in batches:
        state, table = one(state, batch)
        total += np.asarray(table)
    # float32 rounding, kept up over four steps.
    np.testing.assert_allclose(mean, total / 4, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(end.params["trunk"], state.params["trunk"], rtol=1e-4)


def test_aux_keywords_and_names():
    def program(params, x, *, targets):
        return values_fn(params, x, targets), {"kept": x}

    params, x, targets = make_problem(dtype=np.float32)
    optimizer = optax.sgd(RATE)
    state = optimizer.init(params)
    f = hw.affinity(program, optimizer, has_aux=True)
    (values, aux), table = f(params, state, x, targets=targets)
    np.testing.assert_array_equal(aux["kept"], x)
    plain_values, plain = hw.affinity(values_fn, optimizer)(params, state, x, targets)
    assert list(values) == list(HEADS)
    jax.tree.map(np.testing.assert_array_equal, values, plain_values)
    np.testing.assert_array_equal(table, plain)


@pytest.mark.parametrize("method", ["measured", "predicted"])
def test_bfloat16_gives_float32(method):
    params, x, targets = make_problem(dtype=np.float32)
    optimizer = optax.sgd(1.0)
    f = jax.jit(hw.affinity(values_fn, optimizer, method))
    wide = f(params, optimizer.init(params), x, targets)[1]
    short = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), (params, x, targets))
    got = f(short[0], optimizer.init(short[0]), *short[1:])[1]
    assert got.dtype == jnp.float32
    # bfloat16 keeps 8 bits, about ten roundings of 2^-9 on a path; entries of order 1.
    np.testing.assert_allclose(got, wide, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("method", ["measured", "predicted"])
@pytest.mark.parametrize("bad", ["value 0", "value NaN", "gradient NaN"])
def test_a_bad_head_spoils_no_other(method, bad):
    params, x, targets = make_problem(dtype=np.float32)

    def program(params, x, targets):
        values = values_fn(params, x, targets)
        reached = jnp.sum(params["trunk"])
        # The gradient of sqrt(0) * 0 is NaN, its value is not.
        odd = {
            "value 0": reached - jax.lax.stop_gradient(reached),
            "value NaN": jnp.log(-jnp.square(reached)),
            "gradient NaN": 1.0 + jnp.sqrt(0.0 * reached),
        }[bad]
        return {"y0": odd} | values

    optimizer = optax.adam(RATE)
    state = optimizer.init(params)
    fs = [jax.jit(hw.affinity(f, optimizer, method)) for f in (values_fn, program)]
    clean, table = (np.asarray(f(params, state, x, targets)[1]) for f in fs)
    np.testing.assert_allclose(table[1:, 1:], clean, rtol=1e-5, atol=3e-6)
    if bad == "value 0":
        np.testing.assert_array_equal(table[:, 0], 0.0)
        assert np.isfinite(table).all()
    elif bad == "value NaN":
        assert np.isnan(table[:, 0]).all()
    else:
        assert np.isnan(table[0]).all()


def test_absolute_form_keeps_the_meaning_of_negative_values():
    def likelihoods(params):
        return {"a": -jnp.exp(-jnp.square(params["w"])) - 1.0, "b": params["w"] - 9.0}

    params, optimizer = {"w": jnp.array(1.0)}, optax.sgd(0.01)
    state = optimizer.init(params)
    for method in ("measured", "predicted"):
        f = hw.affinity(likelihoods, optimizer, method, relative=False)
        _, absolute = jax.jit(f)(params, state)
        # Both heads want a smaller w: every step helps every head.
        assert (absolute > 0).all()
        f = jax.jit(hw.affinity(likelihoods, optimizer, method))
        values, relative = f(params, state)
        ratio = np.asarray(absolute) / np.stack([*values.values()])
        np.testing.assert_allclose(relative, ratio, rtol=1e-5)
        assert (relative < 0).all()


@pytest.mark.parametrize(
    ("options", "state", "error", "words"),
    [
        ({"method": "exact"}, (), ValueError, ["method", "measured", "'exact'"]),
        ({"optimizer": 0.1}, (), TypeError, ["optimizer", "optax", "got 0.1"]),
        ({}, (), ValueError, ["optimizer_state", "optimizer.init(params)", "()"]),
        ({}, jnp.ones(3), ValueError, ["optimizer_state", "PyTreeDef(*)"]),
        ({"shared": {"w": 1}}, None, TypeError, ["shared", "bool", "int"]),
        ({"shared": {"v": True}}, None, ValueError, ["shared", "prefix", "'v'"]),
        ({"shared": {"w": False}}, None, ValueError, ["shared", "no parameter", "'w'"]),
        ({"has_aux": True}, None, TypeError, ["values_fn", "has_aux=True", "dict"]),
    ],
)
def test_misuse_of_affinity_is_named(options, state, error, words):
    params = {"w": jnp.array(1.0)}
    options = {"optimizer": optax.adam(0.1)} | options
    if state is None:
        state = options["optimizer"].init(params)
    with pytest.raises(error) as raised:
        hw.affinity(quadratics, **options)(params, state)
    for word in words:
        assert word in str(raised.value)
