"""`trainable`: a step of a part equals training that part alone, by whatever way."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from flax import nnx

import headwise as hw
from tests import _compiled

B, T = hw.balancers, hw.training
NAMES = ("a", "b")
RNG = np.random.default_rng(0)


def drawn(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


FROZEN = {"trunk": {"deep": drawn(3, 4)}, "b": {"out": drawn(4, 1)}}
PART = {
    "trunk": {"late": drawn(4, 4)},
    "a": {"out": drawn(4, 1)},
    "b": {"in": drawn(4, 4)},
}
PARAMS = {name: FROZEN.get(name, {}) | PART[name] for name in PART}
FLAGS = {
    "trunk": {"deep": False, "late": True},
    "a": True,
    "b": {"in": True, "out": False},
}
BATCH = drawn(6, 3)
OBJECTIVE = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))
ADAMW = optax.chain(optax.adamw(0.05, weight_decay=0.1), optax.trace(0.9))


def not_frozen(path):
    return path not in ("trunk/deep", "b/out")


def values_fn(p, rest, batch, key):
    """Two heads of a trunk; `b` has no label in a batch whose first entry is NaN."""
    labelled = ~jnp.isnan(batch[:1, 0])
    x = jnp.where(jnp.isnan(batch), 0.0, batch)
    h = jnp.tanh(jnp.tanh(x @ p["trunk"]["deep"]) @ p["trunk"]["late"])
    outputs = {"a": h @ p["a"]["out"], "b": jnp.tanh(h @ p["b"]["in"]) @ p["b"]["out"]}
    targets = {n: jnp.sum(x, 1, keepdims=True) for n in NAMES}
    where = {"b": jnp.broadcast_to(labelled, x.shape[:1])}
    return OBJECTIVE.values(outputs, targets, where=where), rest + 1


def of_part(p, *args):
    return values_fn({n: FROZEN.get(n, {}) | p[n] for n in PARAMS}, *args)


def trained(f, params, balancer, optimizer=ADAMW, trainable=None, **options):
    """State and infos of three steps; one is compiled."""
    step = T.make_step(
        f, optimizer, balancer, stateful=True, trainable=trainable, **options
    )
    rest = jnp.zeros(())
    state = T.init_state(NAMES, params, optimizer, balancer, rest, trainable=trainable)
    state, step = jax.tree.map(jnp.copy, state), jax.jit(step, donate_argnums=0)
    infos = []
    for batch in (BATCH, BATCH.at[0, 0].set(jnp.nan), BATCH):
        state, info = step(state, batch)
        infos.append(info)
    return state, infos


CASES = {
    "imtl_g, own": (B.imtl_g(), {"private": "own", "trainable": FLAGS}),
    "equal, microbatches": (B.equal(), {"microbatches": 2, "contributions": 2}),
    "graddrop": (B.graddrop(), {"contributions": True}),
    "famo, absent heads held": (B.famo(), {"optimizer": T.hold_absent(ADAMW)}),
    "features": (B.imtl_g(), {"wrt": "features"}),
    "two batches, told of values": (B.modo(), {"optimizer": optax.polyak_sgd(0.1)}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_part_alone(case):
    balancer, options = CASES[case]
    options = {"trainable": not_frozen, **options}
    state, infos = trained(values_fn, PARAMS, balancer, **options)
    options.pop("trainable")
    alone, of_alone = trained(of_part, PART, balancer, **options)
    for path, frozen in jax.tree.leaves_with_path(FROZEN):
        here = dict(jax.tree.leaves_with_path(state.params))[path]
        np.testing.assert_array_equal(here, frozen)
    part = [
        x for x, on in zip(jax.tree.leaves(state.params), _flags(), strict=True) if on
    ]
    got = part, jax.tree.leaves(state.optimizer), jax.tree.leaves(infos)
    expected = map(jax.tree.leaves, (alone.params, alone.optimizer, of_alone))
    for mine, other in zip(got, expected, strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    if infos[0].contributions is not None:
        told = infos[0].contributions.modules
        assert told == of_alone[0].contributions.modules


def _flags():
    return jax.tree.leaves(jax.tree.broadcast(FLAGS, PARAMS))


def test_of_a_bilevel_step():
    method, sgd = T.auto_lambda(), optax.sgd(0.1, momentum=0.9)
    found = []
    for f, params, trainable in (
        (values_fn, PARAMS, FLAGS),
        (of_part, PART, None),
    ):
        step = T.make_bilevel_step(
            f, sgd, method, inner_optimizer=None, stateful=True, trainable=trainable
        )
        state = T.init_bilevel_state(
            NAMES, params, sgd, method, jnp.zeros(()), trainable=trainable
        )
        found.append(jax.jit(step)(state, (BATCH, -BATCH)))
    (state, info), (alone, same) = found
    np.testing.assert_array_equal(state.params["b"]["out"], FROZEN["b"]["out"])
    np.testing.assert_allclose(
        state.params["trunk"]["late"], alone.params["trunk"]["late"], rtol=1e-5
    )
    for a, b in zip(
        jax.tree.leaves((state.optimizer, info)),
        jax.tree.leaves((alone.optimizer, same)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_balanced_grad_knows_the_others_as_constants():
    balancer = B.imtl_g()

    def run(f, params, **options):
        f = hw.balanced_grad(f, balancer, stateful=True, **options)
        state = balancer.init(NAMES, params)
        return f(params, state, jnp.zeros(()), BATCH, None)

    @jax.jit
    def both():
        return run(values_fn, PARAMS, trainable=FLAGS), run(of_part, PART)

    (grads, info, _), (alone, same, _) = both()
    flags = _flags()
    mine = [g for g, on in zip(jax.tree.leaves(grads), flags, strict=True) if on]
    others = [g for g, on in zip(jax.tree.leaves(grads), flags, strict=True) if not on]
    for a, b in zip(mine, jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert not any(map(np.any, others))
    np.testing.assert_allclose(info.gramian, same.gramian, rtol=1e-5)


def test_no_pass_goes_to_what_is_frozen():
    """A frozen trunk costs its forward pass: the operations of the heads alone."""
    width = 64
    params = {f"trunk{i}": drawn(width, width) for i in range(4)}
    heads = {n: drawn(width, 1) for n in NAMES}
    batch = drawn(width, width)

    def values_fn(p, batch):
        for i in range(4):
            batch = jnp.tanh(batch @ p[f"trunk{i}"])
        return {n: jnp.mean((batch @ p[n]) ** 2) for n in NAMES}

    def flops(f, whole, others=(), trainable=None):
        optimizer = optax.adam(0.1)
        step = T.make_step(
            lambda p, batch: f(p, *batch), optimizer, trainable=trainable
        )
        state = T.init_state(NAMES, whole, optimizer, trainable=trainable)
        lowered = jax.jit(step).lower(state, (batch, *others))
        return _compiled.as_users(lowered).cost_analysis()["flops"]

    frozen = flops(values_fn, params | heads, (), lambda path: path in NAMES)
    alone = flops(lambda p, b, trunk: values_fn(p | trunk, b), heads, (params,))
    whole = flops(values_fn, params | heads)
    assert frozen <= 1.01 * alone
    assert whole >= 2.5 * frozen  # two passes back for one forward, and Adam


class Part(nnx.Module):
    """Of parameters alone."""

    def __init__(self):
        self.deep = nnx.Param(jnp.ones((3, 4)))
        self.out = nnx.Param(jnp.ones((4, 1)))


class Boxed(linen.Module):
    """Whose parameters come in boxes."""

    @linen.compact
    def __call__(self, x):
        ones = linen.with_partitioning(linen.initializers.ones, (None, "model"))
        deep = self.param("deep", ones, (3, 4))
        return x @ deep @ self.param("out", ones, (4, 1))


CONTAINERS = {
    "nnx.State": lambda: nnx.split(Part())[1],
    "nnx.Module": Part,
    "linen boxes": lambda: Boxed().init(jax.random.key(0), BATCH)["params"],
    "equinox": lambda: eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0)).layers,
    "int8 base": lambda: {"deep": jnp.ones((3, 4), jnp.int8), "out": jnp.ones((4, 1))},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_whatever_the_parameters_come_in(container):
    params = CONTAINERS[container]()
    optimizer = optax.adamw(0.1)

    def trainable(path):
        return "deep" not in path and not path.startswith("0")

    def values_fn(p, batch):
        leaves = [x.astype(jnp.float32) for x in jax.tree.leaves(p)]
        return {"a": sum(jnp.sum(jnp.sin(x)) for x in leaves) ** 2}

    step = T.make_step(values_fn, optimizer, trainable=trainable)
    state = T.init_state(["a"], params, optimizer, trainable=trainable)
    assert jax.tree.structure(state.params) == jax.tree.structure(params)
    new, _ = jax.jit(step)(state, BATCH)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    moved = [
        bool(np.any(a != b))
        for a, b in zip(
            jax.tree.leaves(new.params), jax.tree.leaves(params), strict=True
        )
    ]
    flags = [trainable(path) for path in map("/".join, hw._trees.paths(params))]
    assert moved == flags
    assert not all(flags)
    moments = len(jax.tree.leaves(state.optimizer)) - 1
    assert moments == 2 * sum(flags)


def test_fit_goes_on(tmp_path):
    optimizer, balancer = optax.adamw(0.1), B.imtl_g()
    kind = dict(trainable=not_frozen)
    step = jax.jit(T.make_step(values_fn, optimizer, balancer, stateful=True, **kind))

    def run(steps, folder):
        state = T.init_state(NAMES, PARAMS, optimizer, balancer, jnp.zeros(()), **kind)
        return T.fit(
            step,
            state,
            lambda t: BATCH,
            steps,
            workdir=folder,
            progress=False,
            check=False,
        )[0]

    run(2, tmp_path / "parts")
    parts, whole = run(4, tmp_path / "parts"), run(4, None)
    for a, b in zip(
        jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
