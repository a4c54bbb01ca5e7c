"""`balanced_grad`: the gradient to apply, for every kind of balancer, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

NAMES = ["loss1", "loss2"]
ABCD = {"A": 2.0, "B": 3.0, "C": 5.0, "D": -7.0}

# loss1 = C B A x, loss2 = D B A x at x = 1, by hand.
GRAD1 = {"A": 15.0, "B": 10.0, "C": 6.0, "D": 0.0}
GRAD2 = {"A": -21.0, "B": -14.0, "C": 0.0, "D": 6.0}
# Over the shared A and B alone; C and D would add 36 to each square.
GRAM = [[15.0**2 + 10**2, -15 * 21 - 10 * 14], [-15 * 21 - 10 * 14, 21.0**2 + 14**2]]


def network(p, x):
    h = p["B"] * (p["A"] * x)
    return {"loss2": p["D"] * h, "loss1": p["C"] * h}


def combined(w1, w2):
    return {name: w1 * GRAD1[name] + w2 * GRAD2[name] for name in ABCD}


def assert_close(got, expected, rtol=1e-6):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6),
        got,
        expected,
    )


def halves(needs, seen=None):
    """A balancer of each kind: weights 0.5 and 2, or as a direction."""

    def init(names, params=None):
        return (jnp.zeros(()),)

    def update(signals, state):
        if seen is not None:
            seen.append(signals)
        weights = jnp.array([0.5, 2.0])
        direction = None
        if needs == "grads":
            direction = jax.tree.map(
                lambda a, b: 0.5 * a + 2.0 * b,
                signals.grads["loss1"],
                signals.grads["loss2"],
            )
        return hw.balancers.Decision(weights, direction), (state[0] + 1,)

    return hw.balancers.Balancer(init, update, needs)


@pytest.mark.parametrize("needs", ["values", "gramian", "grads"])
@pytest.mark.parametrize("head_grads", [False, True])
class TestEveryKind:
    def test_weighted(self, needs, head_grads):
        f = hw.balanced_grad(network, halves(needs), head_grads=head_grads)
        grads, info, state = jax.jit(f)(ABCD, (jnp.zeros(()),), 1.0)
        assert_close(grads, combined(0.5, 2.0))
        assert list(info.values) == NAMES
        assert_close(info.values, {"loss1": 30.0, "loss2": -42.0})
        assert_close(info.weights, {"loss1": 0.5, "loss2": 2.0})
        assert state[0] == 1
        if needs == "values" and not head_grads:
            assert info.gramian is None
            assert info.conflicts is None
            assert info.grads is None
        else:
            np.testing.assert_allclose(info.gramian, GRAM)
            assert info.conflicts == 1
            assert_close(info.grads, {"loss1": GRAD1, "loss2": GRAD2})

    def test_own(self, needs, head_grads):
        """C and D get their own head's gradient; A and B the weighted one."""
        f = hw.balanced_grad(network, halves(needs), "own", head_grads=head_grads)
        grads, _, _ = f(ABCD, (jnp.zeros(()),), 1.0)
        expected = combined(0.5, 2.0) | {"C": GRAD1["C"], "D": GRAD2["D"]}
        assert_close(grads, expected)

    def test_jit_and_vmap(self, needs, head_grads):
        f = hw.balanced_grad(network, halves(needs), "own", head_grads=head_grads)
        state, xs = (jnp.zeros(()),), jnp.array([1.0, -2.0])
        many = jax.jit(jax.vmap(f, in_axes=(None, None, 0)))(ABCD, state, xs)
        one = jax.jit(f)
        for k, x in enumerate(xs):
            row = jax.tree.map(lambda a, k=k: a[k], many)
            assert_close(row, one(ABCD, state, x))


def test_mgda_by_hand():
    """Shared gradients (15, 10) and (-21, -14) are antiparallel: 7/12 and 5/12."""
    balancer = hw.balancers.mgda()
    f = jax.jit(hw.balanced_grad(network, balancer))
    grads, info, _ = f(ABCD, balancer.init(NAMES), 1.0)
    # atol: antiparallel is singular, so that the ridge of 3e-6 shows.
    np.testing.assert_allclose(info.weights["loss1"], 7 / 12, atol=1e-5)
    np.testing.assert_allclose(grads["A"], 0.0, atol=1e-3)
    np.testing.assert_allclose(grads["C"], 6 * 7 / 12, atol=1e-3)
    own = jax.jit(hw.balanced_grad(network, balancer, "own"))
    grads, _, _ = own(ABCD, balancer.init(NAMES), 1.0)
    np.testing.assert_allclose(grads["B"], 0.0, atol=1e-3)
    assert float(grads["C"]) == 6.0
    assert float(grads["D"]) == 6.0


def test_gramian_is_over_all_where_nothing_is_shared():
    def apart(p):
        return {"a": p["u"] ** 2, "b": 3 * p["v"]}

    balancer = hw.balancers.mgda()
    f = jax.jit(hw.balanced_grad(apart, balancer))
    _, info, _ = f({"u": 1.0, "v": 1.0}, balancer.init(["a", "b"]))
    np.testing.assert_allclose(info.gramian, [[4.0, 0.0], [0.0, 9.0]])


LOSS = optax.losses.squared_error
OBJECTIVE = hw.Objective({"bad": lambda p, t: jnp.sqrt(p - t), "good": LOSS})
PARAMS = {"A": jnp.array([1.0, -2.0]), "C": jnp.float32(3.0), "D": jnp.float32(0.5)}
X = jnp.array([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])


def with_nan(p, x):
    h = x @ p["A"]
    outputs = {"bad": p["C"] * h, "good": p["D"] * h}
    return OBJECTIVE.values(outputs, {"bad": jnp.full(3, 1e3), "good": jnp.zeros(3)})


def good_alone(weight=1.0):
    def value(p):
        return weight * jnp.mean(jnp.square(p["D"] * (X @ p["A"])))

    return jax.grad(value)(PARAMS)


@pytest.mark.parametrize("head_grads", [False, True])
@pytest.mark.parametrize("how", ["weight", "dict", "array"])
def test_head_of_weight_zero_leaves_no_trace(head_grads, how):
    weights = {"bad": 0.0 if how == "weight" else 5.0, "good": 2.0}
    present = {
        "weight": None,
        "dict": {"good": True, "bad": False},
        "array": jnp.array([False, True]),
    }[how]
    balancer = hw.balancers.constant(weights)
    f = jax.jit(hw.balanced_grad(with_nan, balancer, head_grads=head_grads))
    state = balancer.init(["bad", "good"])
    grads, info, _ = f(PARAMS, state, X, present=present)
    assert np.isnan(info.values["bad"])
    assert info.weights["bad"] == 0
    assert_close(grads, good_alone(2.0))


@pytest.mark.parametrize("head_grads", [False, True])
def test_absent_head_with_own_private_parameters(head_grads):
    balancer = hw.balancers.equal()
    f = jax.jit(hw.balanced_grad(with_nan, balancer, "own", head_grads=head_grads))
    present = {"bad": False, "good": True}
    grads, _, _ = f(PARAMS, balancer.init(["bad", "good"]), X, present=present)
    assert_close(grads, good_alone())


def test_absent_head_with_a_gramian():
    balancer = hw.balancers.mgda()
    f = jax.jit(hw.balanced_grad(with_nan, balancer))
    present = {"bad": False, "good": True}
    grads, info, _ = f(PARAMS, balancer.init(["bad", "good"]), X, present=present)
    assert_close(info.weights, {"bad": 0.0, "good": 1.0})
    assert_close(grads, good_alone())


def test_aux_key_step_and_present_are_passed_on():
    seen = []

    def program(p, x):
        return network(p, x), {"x": x}

    f = hw.balanced_grad(program, halves("gramian", seen), has_aux=True)
    key, present = jax.random.key(3), {"loss2": False, "loss1": True}
    _, info, _ = f(ABCD, (jnp.zeros(()),), 1.0, key=key, step=7, present=present)
    assert info.aux == {"x": 1.0}
    (signals,) = seen
    assert signals.key is key
    assert signals.step == 7
    assert signals.names == tuple(NAMES)
    np.testing.assert_array_equal(signals.present, [True, False])
    np.testing.assert_allclose(signals.values, [30.0, 0.0])  # absent: 0, not -42
    np.testing.assert_allclose(signals.gram, [[GRAM[0][0], 0.0], [0.0, 0.0]])
    assert signals.grads is None


def test_aux_of_the_single_pass():
    f = hw.balanced_grad(
        lambda p, x: (network(p, x), x), halves("values"), has_aux=True
    )
    _, info, _ = f(ABCD, (jnp.zeros(()),), 1.0)
    assert info.aux == 1.0


def count(jaxpr, primitive):
    found = 0
    for eqn in jaxpr.eqns:
        found += eqn.primitive.name == primitive
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            found += count(inner, primitive) if hasattr(inner, "eqns") else 0
    return found


@pytest.mark.parametrize("private", ["weighted", "own"])
def test_one_backward_pass_for_a_balancer_that_needs_values(private):
    params = {f"l{i}": jnp.eye(4) for i in range(3)} | {
        "C": jnp.eye(4),
        "D": jnp.eye(4),
    }

    def program(p, x):
        for i in range(3):
            x = jnp.tanh(x @ p[f"l{i}"])
        return {"a": jnp.sum(x @ p["C"]), "b": jnp.sum(jnp.square(x @ p["D"]))}

    balancer = hw.balancers.constant({"a": 0.5, "b": 0.3})
    state, x = balancer.init(["a", "b"]), jnp.ones((2, 4))

    def total(p):
        values = program(p, x)
        return 0.5 * values["a"] + 0.3 * values["b"]

    f = hw.balanced_grad(program, balancer, private)
    mine = jax.make_jaxpr(f)(params, state, x).jaxpr
    plain = count(jax.make_jaxpr(jax.grad(total))(params).jaxpr, "dot_general")
    # With "own" too: the private parts are pulled back once, with weight 1.
    assert count(mine, "dot_general") == plain


def test_weights_and_gradients_keep_the_dtypes_of_params():
    params = jax.tree.map(lambda v: jnp.bfloat16(v), ABCD)
    for needs in ("values", "gramian", "grads"):
        f = hw.balanced_grad(network, halves(needs))
        grads, info, _ = f(params, (jnp.zeros(()),), jnp.bfloat16(1.0))
        assert {g.dtype for g in grads.values()} == {jnp.dtype("bfloat16")}
        if needs != "values":
            assert info.gramian.dtype == jnp.float32


def test_misuse_is_named():
    with pytest.raises(ValueError, match=r"private: .*'shared'"):
        hw.balanced_grad(network, hw.balancers.equal(), private="shared")
    with pytest.raises(ValueError, match=r"balancer.needs: .*'losses'"):
        hw.balanced_grad(network, halves("losses"))
    balancer = hw.balancers.scheduled({"loss1": 1.0, "loss2": 1.0})
    f = hw.balanced_grad(network, balancer)
    with pytest.raises(
        ValueError, match=r"scheduled: expected signals\.step.* takes step="
    ):
        f(ABCD, balancer.init(NAMES), 1.0)
    with pytest.raises(ValueError, match=r"present: .*unknown \['loss3'\]"):
        f(ABCD, balancer.init(NAMES), 1.0, step=0, present={"loss1": 1, "loss3": 1})
    equal = hw.balancers.equal()
    of_three = equal.init(["a", "b", "c"])
    words = r"constant: signals: expected the names \['a', 'b', 'c'\], got \['loss1', "
    with pytest.raises(ValueError, match=words):
        hw.balanced_grad(network, equal)(ABCD, of_three, 1.0)
    with pytest.raises(TypeError, match="int32"):
        f({**ABCD, "A": jnp.int32(1)}, balancer.init(NAMES), 1.0, step=0)


@pytest.mark.parametrize("needs", ["values", "gramian", "grads"])
@pytest.mark.parametrize("private", ["weighted", "own"])
def test_microbatches_equal_the_whole_batch(needs, private):
    def program(p, x):
        return {name: jnp.mean(value**2) for name, value in network(p, x).items()}

    x, state = jnp.arange(1.0, 7.0), (jnp.zeros(()),)
    whole = jax.jit(hw.balanced_grad(program, halves(needs), private))
    parts = jax.jit(hw.balanced_grad(program, halves(needs), private, microbatches=3))
    grads, info, _ = parts(ABCD, state, x)
    expected, expected_info, _ = whole(ABCD, state, x)
    assert_close(grads, expected, 1e-5)
    assert_close(info.values, expected_info.values, 1e-5)
    if needs == "gramian":
        np.testing.assert_allclose(info.gramian, expected_info.gramian, rtol=1e-5)
        assert info.conflicts == expected_info.conflicts


def test_microbatches_in_a_step_and_misuse():
    def program(p, x):
        return {name: jnp.mean(value**2) for name, value in network(p, x).items()}

    optimizer, balancer = optax.sgd(1e-6), hw.balancers.mgda()
    params = {name: jnp.float32(value) for name, value in ABCD.items()}
    state = hw.training.init_state(NAMES, params, optimizer, balancer)
    x = jnp.arange(1.0, 9.0)
    make_step = hw.training.make_step
    one, _ = jax.jit(make_step(program, optimizer, balancer))(state, x)
    parts = make_step(program, optimizer, balancer, microbatches=4)
    two, _ = jax.jit(parts)(state, x)
    assert_close(two.params, one.params, 1e-6)
    step = make_step(program, optimizer, balancer, microbatches=3)
    with pytest.raises(ValueError, match=r"microbatches: .* divides .*3 and .*\(8,\)"):
        step(state, x)
    with pytest.raises(ValueError, match=r"microbatches: .*positive.* got 0"):
        hw.balanced_grad(program, balancer, microbatches=0)
