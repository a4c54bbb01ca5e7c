"""States of training: about named heads, with buffers of their own, to be donated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.training import _bilevel_cases

B, T = hw.balancers, hw.training
SGD = optax.sgd(0.1)


def values_fn(params, batch):
    h = params["trunk"] * batch
    return {"depth": jnp.mean((h - 1.0) ** 2), "seg": jnp.mean((h * params["s"]) ** 2)}


def make_params():
    return {"trunk": jnp.array([0.5, -0.3]), "s": jnp.ones(2)}


BATCH = jnp.array([1.0, 2.0])
WRONG = r"expected the names \['a_seg', 'depth'\], got \['depth', 'seg'\]"


def own():
    """A balancer of a user's own, whose state knows no names."""

    def update(signals, state):
        return B.Decision(state), state

    return B.Balancer(lambda names, params=None: jnp.array([5.0, 1.0]), update)


@pytest.mark.parametrize(
    "balancer",
    [B.constant({"a_seg": 5.0, "depth": 1.0}), B.every(2, B.imtl_g()), own()],
)
def test_heads_are_those_of_the_state(balancer):
    """Weights went by position: 5 for depth, 1 for seg."""
    state = T.init_state(["a_seg", "depth"], make_params(), SGD, balancer)
    assert state.names == ("a_seg", "depth")
    with pytest.raises(ValueError, match=f"values_fn: {WRONG}"):
        T.make_step(values_fn, SGD, balancer)(state, BATCH)
    f = hw.balanced_grad(values_fn, balancer)
    if hasattr(state.balancer, "names"):
        # Of those that answer, the first names itself.
        with pytest.raises(ValueError, match=f"(constant|every): signals: {WRONG}"):
            f(state.params, state.balancer, BATCH)
        other = B.scheduled({"depth": 0.0, "seg": 0.0}).init(["depth", "seg"])
        with pytest.raises(TypeError, match="got that of scheduled"):
            f(state.params, other, BATCH)
        # A state without names is not compared by the step, still by the balancer.
        step, nameless = (
            T.make_step(values_fn, SGD, balancer),
            state._replace(names=None),
        )
        with pytest.raises(ValueError, match=f"signals: {WRONG}"):
            step(nameless, BATCH)
    else:
        _, info, _ = f(state.params, state.balancer, BATCH)
        assert info.weights["seg"] == 1.0


def pointers(tree):
    arrays = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(tree)
    ]
    return [x.unsafe_buffer_pointer() for x in arrays]


# One that keeps the parameters themselves in its state.
AVERAGED = optax.lookahead(SGD, sync_period=2, slow_step_size=0.5)
DONATED = {
    "relobralo": (B.relobralo(), SGD),
    "famo": (B.famo(), optax.adam(0.1)),
    "warm_up(dwa)": (B.warm_up(B.dwa(), 2), optax.sgd(0.1, momentum=0.9)),
}


@pytest.mark.parametrize("name", DONATED)
def test_a_donated_state_is_as_good_as_one_that_is_kept(name):
    balancer, optimizer = DONATED[name]
    given = (make_params(), (jnp.ones(3), np.ones(2)), jax.random.key(3))
    params, rest, key = given
    tied = {**params, "twice": params["s"]}
    state = T.init_state(["depth", "seg"], tied, optimizer, balancer, rest, key)
    assert len(set(pointers(state))) == len(pointers(state))
    assert not set(pointers(state)) & set(pointers((params, rest[0], key)))
    step = T.make_step(values_fn, optimizer, balancer)
    kept, donated = jax.jit(step), jax.jit(step, donate_argnums=0)
    other = jax.tree.map(jnp.copy, state)
    for _ in range(3):
        other, info = kept(other, BATCH)
        state, same = donated(state, BATCH)
    for a, b in zip(*map(jax.tree.leaves, (info, same)), strict=True):
        np.testing.assert_array_equal(a, b)
    # Nothing of the caller's is deleted.
    np.testing.assert_array_equal(params["s"], 1.0)
    np.testing.assert_array_equal(jax.random.key_data(key)[-1], 3)
    assert not any(x.is_deleted() for x in jax.tree.leaves((params, rest[0], key)))


def test_optimizers_that_keep_the_parameters_share_no_buffer():
    params = {"w": jnp.ones(2)}
    pair = optax.LookaheadParams.init_synced(params)
    state = T.init_state(["a"], pair, AVERAGED, B.equal())
    assert len(set(pointers(state))) == len(pointers(state))


@pytest.mark.parametrize(
    "balancer", [B.config(momentum=0.9), B.moco(), B.db_mtl(), B.excess_mtl()]
)
def test_averages_lie_where_the_parameters_lie(balancer):
    """On a mesh with explicit axes those of `config` raised in the first step."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec("d", None)
    with jax.set_mesh(mesh):
        params = {"w": jax.device_put(jnp.ones((4, 2)), spec)}
        state = T.init_state(["a", "b"], params, SGD, balancer)

        def values(p, x):
            return {"a": jnp.mean(p["w"] ** 2), "b": jnp.mean((p["w"] - x) ** 2)}

        step = jax.jit(T.make_step(values, SGD, balancer))
        new, _ = step(state, 3.0)
        averages = jax.tree.leaves(state.balancer)[0]
        assert tuple(averages.sharding.spec)[-2:] == tuple(spec)
        assert jax.tree.leaves(new.balancer)[0].sharding == averages.sharding


@pytest.mark.parametrize("name", _bilevel_cases.METHODS)
def test_first_bilevel_states_share_no_buffer(name):
    params, _ = _bilevel_cases.make_case(np.float32)
    method = _bilevel_cases.METHODS[name]
    state = T.init_bilevel_state(
        _bilevel_cases.NAMES, params, optax.adam(0.1), method, key=jax.random.key(3)
    )
    assert len(set(pointers(state))) == len(pointers(state))
    assert not set(pointers(state)) & set(pointers(params))
    assert state.names == _bilevel_cases.NAMES
    assert state.upper.names == _bilevel_cases.NAMES


@pytest.mark.parametrize(
    "name", ["go4align", "db_mtl", "gls", "uw_so", "famo", "uncertainty"]
)
def test_a_policy_loss_beside_a_regression_trains_both(name):
    """Below 0 in all steps: weights were 1e8 and 1e30, or 0 for the other head."""

    def values(params, batch):
        policy = 0.01 * jnp.mean(jnp.tanh(params["trunk"])) - 0.02
        return {"mse": values_fn(params, batch)["depth"], "policy": policy}

    balancer, optimizer = getattr(B, name)(), optax.sgd(0.01)
    step = T.make_step(values, optimizer, balancer)
    state = T.init_state(["mse", "policy"], make_params(), optimizer, balancer)
    batches = jnp.stack([BATCH] * 300)
    state, info = jax.jit(lambda s: jax.lax.scan(step, s, batches))(state)
    # `db_mtl` makes gradients equally long: that of the policy is 1,000 times shorter.
    largest = 1e5 if name == "db_mtl" else 100
    for weights in info.weights.values():
        assert ((weights > 0.01) & (weights < largest)).all()
    mse, policy = info.values["mse"], info.values["policy"]
    if name == "db_mtl":  # both fall, until two gradients of one length cancel
        assert mse[-1] < mse[0]
        assert policy[-1] < policy[0]
        assert info.grad_norm[-1] < 0.01 * info.grad_norm[60]
    else:
        assert mse[-1] < 0.5 * mse[0]
    assert np.isfinite(state.params["trunk"]).all()


@pytest.mark.parametrize(
    ("leaf", "error", "words"),
    [
        ("x", TypeError, "got str at 'a/0'"),
        (object(), TypeError, "got object at 'a/0'"),
        (10**50, ValueError, "expected ints of int32, got one of 167 bits at 'a/0'"),
        (2**31, ValueError, "got one of 32 bits at 'a/0'"),
    ],
)
def test_what_no_array_can_hold_is_named(leaf, error, words):
    for init, method in ((T.init_state, None), (T.init_bilevel_state, T.forum())):
        with pytest.raises(error, match=f"rest: .*{words}"):
            init(["b"], {"w": jnp.ones(2)}, optax.sgd(0.1), method, {"a": [leaf]})


def test_what_an_array_can_hold_is_kept():
    rest = {"a": np.float16(1), "b": True, "c": 2**31 - 1, "d": jax.random.key(0)}
    state = T.init_state(
        ["b"], {"w": jnp.ones(2)}, optax.sgd(0.1), None, rest | {"e": None}
    )
    dtypes = [str(x.dtype) for x in jax.tree.leaves(state.rest)]
    assert dtypes == ["float16", "bool", "int32", "key<fry>"]
