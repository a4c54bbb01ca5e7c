"""Balanced steps on every device's own part of the batch, inside `jax.shard_map`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec

import headwise as hw

NAMES = ("a", "b")
DEVICES = 4


def values_fn(params, x):
    h = jnp.tanh(x @ params["A"])
    return {
        "a": jnp.mean((h @ params["B"]) ** 2),
        "b": jnp.mean(jnp.abs(h @ params["C"] - 1)),
    }


@pytest.fixture(scope="module")
def model():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"A": (3, 4), "B": (4, 2), "C": (4, 2)}
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items())}
    return params, jax.random.normal(keys[3], (24, 3))


def varying(tree):
    return jax.tree.map(lambda x: jax.lax.pcast(x, "batch", to="varying"), tree)


def on_devices(function, x):
    """The mean over the devices of what the function makes of its part."""
    mesh = Mesh(jax.devices()[:DEVICES], ("batch",))
    batch, whole = PartitionSpec("batch"), PartitionSpec()
    f = jax.shard_map(
        lambda x: jax.lax.pmean(function(x), "batch"),
        mesh=mesh,
        in_specs=batch,
        out_specs=whole,
    )
    return jax.jit(f)(x)


def one_by_one(function, x):
    parts = [jax.jit(function)(part) for part in np.split(np.asarray(x), DEVICES)]
    parts = jax.tree.map(np.asarray, parts)
    return jax.tree.map(lambda *leaves: sum(leaves) / DEVICES, *parts)


def assert_same(got, expected):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        # The same operations in float32, a mean of four.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


BALANCERS = {
    # A loop each: the QP, the LP, the fairness search, projections, k-means.
    "mgda": hw.balancers.mgda(),
    "cagrad": hw.balancers.cagrad(),
    "epo": hw.balancers.epo({"a": 1.0, "b": 2.0}),
    "nash_mtl": hw.balancers.nash_mtl(),
    "pcgrad": hw.balancers.pcgrad(),
    "sdmgrad": hw.balancers.sdmgrad(),
    "go4align": hw.balancers.go4align(),
    # Branches, and gradients.
    "every": hw.balancers.every(2, hw.balancers.upgrad()),
    "db_mtl": hw.balancers.db_mtl(),
}


@pytest.mark.parametrize("name", BALANCERS)
def test_balanced_gradients(name, model):
    params, x = model
    balancer = BALANCERS[name]
    state = balancer.init(NAMES, params)
    f = hw.balanced_grad(values_fn, balancer)

    def gradient(x, vary=lambda tree: tree):
        key = jax.random.key(0)
        return f(vary(params), vary(state), x, key=key, step=0)[0]

    got = on_devices(lambda x: gradient(x, varying), x)
    assert_same(got, one_by_one(gradient, x))


def test_step_with_contributions_and_microbatches(model):
    params, x = model
    optimizer, balancer = optax.adam(1e-2), hw.balancers.imtl_g()
    state = hw.training.init_state(NAMES, params, optimizer, balancer)
    step = hw.training.make_step(
        values_fn, optimizer, balancer, contributions=2, microbatches=2
    )

    def after(x, vary=lambda tree: tree):
        new, info = step(vary(state), x)
        return new.params, info.contributions.norm

    got = on_devices(lambda x: after(x, varying), x)
    assert_same(got, one_by_one(after, x))


def test_contributions_of_long_leaves(model):
    """Those that are reduced together in one loop."""
    x = model[1]
    keys = jax.random.split(jax.random.key(1), 2)
    params = {
        "A": jax.random.normal(keys[0], (3, 256)),
        "B": jax.random.normal(keys[1], (256, 256)),
        "C": jnp.ones((256, 256)),
    }

    def two(params, x):
        h = jnp.tanh(jnp.tanh(x @ params["A"]) @ params["B"])
        return {"a": jnp.mean(h @ params["C"]), "b": jnp.mean(h**2)}

    reaches = hw.routing(two, params, x).reaches

    def shares(x, vary=lambda tree: tree):
        _, grads = hw.head_grads(two)(vary(params), x)
        update = grads["a"]
        return hw.contributions(grads, update=update, depth=1, reaches=reaches).share

    got = on_devices(lambda x: shares(x, varying), x)
    assert_same(got, one_by_one(shares, x))


OBJECTIVE = hw.Objective(
    {"a": optax.losses.squared_error, "b": hw.losses.cross_entropy}
)


def by_objective(params, x):
    """Targets made here differ between no devices, unlike the outputs."""
    h = jnp.tanh(x @ params["A"])
    return OBJECTIVE.values(
        {"a": h @ params["B"], "b": h @ params["C"]},
        {"a": jnp.ones((len(x), 2)), "b": jnp.zeros(len(x), jnp.int32)},
    )


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, ct: (2 * ct,))


def with_a_layer(params, x):
    values = by_objective({n: doubled(p) for n, p in params.items()}, x)
    return {"a": doubled(values["a"]), "b": values["b"]}


def whole(balancer, program, params, x):
    """Gradient, weights and presence from the whole batch, on one device."""
    state = balancer.init(NAMES, params)
    grads, info, _ = hw.balanced_grad(program, balancer)(params, state, x)
    return grads, info.weights, info.present


def in_shard_map(function, in_specs, out_specs):
    mesh = Mesh(jax.devices()[:DEVICES], ("batch",))
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    )


SPLIT, WHOLE = PartitionSpec("batch"), PartitionSpec()
WEIGHTED = {
    "equal": (hw.balancers.equal(), values_fn),
    "constant": (hw.balancers.constant({"a": 1.0, "b": 0.5}), by_objective),
    "uncertainty": (hw.balancers.uncertainty(), values_fn),
    "every": (hw.balancers.every(2, hw.balancers.imtl_g()), by_objective),
    "imtl_g": (hw.balancers.imtl_g(), with_a_layer),
}


@pytest.mark.parametrize("name", WEIGHTED)
def test_parameters_that_do_not_vary(name, model):
    """Values are means over the devices; the gradient is that of the whole batch.

    What comes out does not vary either: `out_specs` would be refused.
    """
    balancer, program = WEIGHTED[name]
    params, x = model

    def mean(params, x):
        return jax.lax.pmean(program(params, x), "batch")

    f = in_shard_map(lambda p, x: whole(balancer, mean, p, x), (WHOLE, SPLIT), WHOLE)
    expected = jax.jit(lambda p, x: whole(balancer, program, p, x))(params, x)
    assert_same(f(params, x), expected)


def test_split_parameters(model):
    """Rows of every matrix on a device each, gathered where they are used."""
    params, x = model
    params = {n: jnp.concatenate([p] * 4)[:4] for n, p in params.items()}
    x = jnp.concatenate([x, x[:, :1]], 1)

    def gathered(params, x):
        full = {
            n: jax.lax.all_gather(p, "batch", tiled=True) for n, p in params.items()
        }
        return jax.lax.pmean(by_objective(full, x), "batch")

    def both(program, axis_name=None):
        """Gradients, and what is made of all rows: gramians and weights."""

        def run(params, x):
            total = whole(hw.balancers.equal(), program, params, x)[0]
            grads = hw.head_grads(program)(params, x)[1]
            gram = hw.gramian(grads, axis_name)
            again = hw.head_gramian(program, axis_name=axis_name)(params, x)[1]
            imtl = hw.balancers.imtl_g()
            f = hw.balanced_grad(program, imtl, axis_name=axis_name)
            common, info, _ = f(params, imtl.init(NAMES), x)
            return (total, grads, common), (gram, again, info.weights, info.gramian)

        return run

    f = in_shard_map(both(gathered, "batch"), (SPLIT, SPLIT), (SPLIT, WHOLE))
    assert_same(f(params, x), jax.jit(both(by_objective))(params, x))


def test_axes_that_nothing_is_split_over_are_named(model):
    params, x = model
    local = hw.head_grads(values_fn)
    f = in_shard_map(lambda p, x: hw.gramian(local(p, x)[1], "batch"), WHOLE, WHOLE)
    with pytest.raises(ValueError, match=r"axis_name: .*split over 'batch'.*psum"):
        jax.eval_shape(f, params, x)
    with pytest.raises(ValueError, match=r"axis_name: .*'grads', got 'batch'"):
        hw.balanced_grad(values_fn, hw.balancers.graddrop(), axis_name="batch")


def test_objective_forward_and_back(model):
    """The gradient of a total, by either way, of parameters of either type."""
    params, x = model
    w = params["B"]

    def total(w, x):
        return OBJECTIVE.total(by_objective(params | {"B": w}, x))

    def derivatives(w, x):
        mine = varying(w)
        slopes = jax.grad(total)(mine, x), jax.jacfwd(total)(mine, x)
        mean = jax.grad(lambda w: jax.lax.pmean(total(w, x), "batch"))(w)
        return (*jax.lax.pmean(slopes, "batch"), mean)

    got = in_shard_map(derivatives, (WHOLE, SPLIT), WHOLE)(w, x)
    assert_same(got, [jax.jit(jax.grad(total))(w, x)] * 3)


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("name", ["dice", "dice_ce", "cldice", "hausdorff"])
def test_losses(name, channels):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 5, channels))
    labels = rng.integers(0, channels, (4, 5))
    arrays = np.float32(np.concatenate([logits, labels[..., None]], -1))

    def mean(arrays):
        loss = getattr(hw.losses, name)
        preds, targets = arrays[..., :-1], arrays[..., -1].astype(jnp.int32)
        return jnp.mean(loss(preds, targets, activation=jax.nn.softmax))

    def slope(arrays):
        return jax.grad(mean)(arrays)[..., :-1]

    got, slopes = on_devices(lambda x: (mean(x), slope(x)), arrays)
    assert_same(got, jax.jit(mean)(arrays))
    assert_same(slopes, one_by_one(slope, arrays))
