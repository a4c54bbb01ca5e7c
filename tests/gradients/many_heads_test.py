"""Many heads that differ in data alone: one program for all, the gradients of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

import headwise as hw
from headwise import _xla
from tests.gradients import _programs
from tests.gradients._programs import assert_close
from tests.gradients._programs import one_by_one

HEADS = 4
METHODS = ("auto", "sequential", "batched")
GRAMIANS = (*METHODS, "lockstep")
NAMES = [f"y{h:02}" for h in range(HEADS)]


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    """So that programs stay small."""
    monkeypatch.setattr(_xla, "ALIKE_HEADS", 3)


def make(dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 6), "out": (6, HEADS), "each": (HEADS, 6, 2), "b": (HEADS,)}
    params = {n: rng.normal(size=s).astype(dtype) / 2 for n, s in shapes.items()}
    params["own"] = [rng.normal(size=(6, 2)).astype(dtype) for _ in NAMES]
    data = {
        "x": rng.normal(size=(8, 4)).astype(dtype),
        "t": rng.normal(size=(8, HEADS)).astype(dtype),
        "ends": rng.integers(0, 8, (2, 12)),
        "where": rng.random((8, HEADS)) < 0.7,
    }
    return jax.tree.map(jnp.asarray, (params, data))


def trunk(p, d):
    return jnp.tanh(d["x"] @ p["w"])


def columns(p, d):
    out = trunk(p, d) @ p["out"]
    return {n: jnp.mean((out[:, i] - d["t"][:, i]) ** 2) for i, n in enumerate(NAMES)}


def by_split(p, d):
    out = jnp.split(trunk(p, d) @ p["out"], HEADS, axis=1)
    return {n: (i + 1.0) * jnp.sum(jnp.sin(out[i])) for i, n in enumerate(NAMES)}


def by_pairs(p, d):
    """Blocks of two columns that overlap, so that heads share what they cut."""
    out = trunk(p, d) @ p["out"]
    out = jnp.concatenate([out, out[:, :1]], 1)
    return {n: jnp.mean(jnp.cos(out[:, i : i + 2])) for i, n in enumerate(NAMES)}


def objective(p, d):
    """Masked, with a head of another loss among them."""
    losses = dict.fromkeys(NAMES, optax.losses.squared_error)
    losses[NAMES[3]] = optax.losses.huber_loss
    out = trunk(p, d) @ p["out"]

    def by_name(array):
        return {n: array[:, i] for i, n in enumerate(NAMES)}

    made = hw.Objective(losses)
    return made.values(by_name(out), by_name(d["t"]), where=by_name(d["where"]))


def decoders(p, d):
    """Parameters of each head's own, and its row of stacked ones."""
    h = trunk(p, d)
    return {
        n: jnp.mean((h @ p["own"][i]) * jnp.tanh(h @ p["each"][i])) + p["b"][i] ** 2
        for i, n in enumerate(NAMES)
    }


def messages(p, d):
    """A round of messages; every other head is of another kind."""
    h = trunk(p, d)
    senders, receivers = d["ends"]
    h = h + jax.ops.segment_sum(jnp.sin(h[senders]), receivers, 8)
    out = h @ p["out"]
    heads = {n: jnp.mean(out[:, i] ** 2) for i, n in enumerate(NAMES)}
    other = {f"z{i:02}": jnp.sum(jnp.abs(out[:, i])) for i in range(HEADS)}
    return heads | other


def agents(p, d):
    """Two heads on each decoder, so that a decoder is shared by them."""
    h = trunk(p, d)
    values = {}
    for i, n in enumerate(NAMES):
        log = jax.nn.log_softmax(h @ p["own"][i])
        values[n] = -jnp.mean(log[:, 0] * d["t"][:, i])
        values[f"e{n}"] = jnp.mean(jnp.sum(jnp.exp(log) * log, -1))
    return values


def nothing_differs(p, d):
    return dict.fromkeys(NAMES, jnp.sum(trunk(p, d))) | {"z": jnp.sum(p["b"])}


CROWDS = {
    f.__name__: f
    for f in (
        columns,
        by_split,
        by_pairs,
        objective,
        decoders,
        messages,
        agents,
        nothing_differs,
    )
}


def weights_of(names):
    return jnp.where(jnp.arange(len(names)) == 2, 0.0, jnp.arange(1.0, len(names) + 1))


@functools.cache
def answers(name):
    """All ways through one program, and the reference, in one compiled program."""
    program = CROWDS[name]

    def all_of(p, d):
        names = sorted(jax.eval_shape(program, p, d))
        weights = weights_of(names)
        plain = hw.gradients.with_aux(program, False)
        backward = hw.gradients.linearize(plain, p, d)[2]
        private = [sum(row) < 2 for row in zip(*backward.reaches(), strict=True)]
        ones = jnp.ones(len(names))

        def stacked(p):
            values = program(p, d)
            return jnp.stack([values[n] for n in names])

        return {
            "grads": {m: hw.head_grads(program, method=m)(p, d)[1] for m in METHODS},
            "grams": {m: hw.head_gramian(program, method=m)(p, d)[1] for m in GRAMIANS},
            "features": (
                hw.head_grads(program, wrt="features")(p, d)[1],
                hw.head_gramian(program, wrt="features")(p, d)[1],
            ),
            "last": hw.head_grads(program, wrt=lambda path: path == "w")(p, d)[1],
            "weighted": backward.weighted(weights),
            "own": backward.weighted(weights, ones, private),
            "private": private,
            "jacobian": jax.jacrev(stacked)(p),
        }

    with jax.enable_x64(True):
        return jax.device_get(_programs.quickly(all_of, *make()))


@pytest.mark.parametrize("name", CROWDS)
def test_equals_the_jacobian(name):
    found = answers(name)
    jacobian = found["jacobian"]
    names = list(found["grads"]["auto"])
    expected = {
        n: jax.tree.map(lambda j, i=i: j[i], jacobian) for i, n in enumerate(names)
    }
    for method in METHODS:
        assert_close(found["grads"][method], expected, 1e-13)
    gram = _programs.gramian(expected)
    for method in GRAMIANS:
        np.testing.assert_allclose(found["grams"][method], gram, rtol=1e-12, atol=1e-13)
    of_features, of_gramian = found["features"]
    np.testing.assert_allclose(of_gramian, _programs.gramian(of_features), atol=1e-13)
    for n in names:
        np.testing.assert_allclose(found["last"][n]["w"], expected[n]["w"], atol=1e-13)
        assert found["last"][n]["out"] is None
    weights = np.asarray(weights_of(names))
    leaves = [np.asarray(j, np.float64) for j in jax.tree.leaves(jacobian)]
    for w, o, own, j in zip(
        found["weighted"], found["own"], found["private"], leaves, strict=True
    ):
        total = np.tensordot(weights, j, 1)
        np.testing.assert_allclose(w, total, rtol=1e-12, atol=1e-12)
        mine = j.sum(0) if own else total
        np.testing.assert_allclose(o, mine, rtol=1e-12, atol=1e-12)


def sizes(transform, heads):
    """Equations in the program of so many columns, and how often it multiplies."""

    def program(p, x):
        out = jnp.tanh(x @ p["w"]) @ p["out"]
        return {f"y{i:03}": jnp.sum(out[:, i]) for i in range(heads)}

    params = {"w": jnp.ones((3, 3)), "out": jnp.ones((3, heads))}
    text = jax.jit(transform(program)).lower(params, jnp.ones((2, 3))).as_text()
    return text.count("stablehlo.dot_general"), text.count("stablehlo.while")


def test_one_program_serves_any_number_of_heads():
    for transform in (hw.head_grads, hw.head_gramian):
        products, _ = sizes(transform, 16)
        assert sizes(transform, 40)[0] == products
    # A plain backward pass has 5; a gramian one more a parameter.
    assert sizes(hw.head_gramian, 40)[0] <= 5 + 2


def test_few_heads_have_a_copy_each():
    products, loops = sizes(hw.head_grads, _xla.ALIKE_HEADS - 1)
    assert loops == 0
    assert products >= 3 * (_xla.ALIKE_HEADS - 1)


def test_a_broken_head_stays_by_itself():
    """NaN in one column's target and in one decoder: in its own rows alone."""
    params, data = make(np.float32)
    broken = data | {"t": data["t"].at[:, 2].set(jnp.nan)}
    own = [w if i != 2 else w * jnp.nan for i, w in enumerate(params["own"])]
    weights = jnp.ones(HEADS).at[2].set(0.0)
    for program, p, d in (
        (objective, params, broken),
        (decoders, params | {"own": own}, data),
    ):
        plain = hw.gradients.with_aux(program, False)

        def all_of(p, d, plain=plain, program=program):
            backward = hw.gradients.linearize(plain, p, d)[2]
            balancer = hw.balancers.imtl_g()
            balanced = hw.balanced_grad(program, balancer)
            grads, info, _ = balanced(p, balancer.init(NAMES), d)
            gram = backward.gramian([True] * len(backward.linear.leaves))
            return backward.weighted(weights), gram, (grads, info.present)

        total, gram, (grads, present) = jax.device_get(_programs.quickly(all_of, p, d))
        finite = np.isfinite(gram)
        assert not finite[2].any()
        assert not finite[:, 2].any()
        assert np.delete(np.delete(finite, 2, 0), 2, 1).all()
        assert all(np.isfinite(leaf).all() for leaf in total)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
        assert [n for n in NAMES if not present[n]] == [NAMES[2]]


def test_under_vmap_and_differentiated_again():
    params, data = make(np.float32)
    p = {"w": params["w"], "out": params["out"]}

    def trace(p, d):
        return jnp.trace(hw.head_gramian(columns)(p, d)[1])

    def by_jacobian(p, d):
        jacobian = jax.jacrev(lambda p: jnp.stack([*columns(p, d).values()]))(p)
        return sum(jnp.sum(j**2) for j in jax.tree.leaves(jacobian))

    def all_of(p, two):
        mapped = jax.vmap(jax.grad(trace), (None, 0))(p, two)
        return mapped, jax.vmap(jax.grad(by_jacobian), (None, 0))(p, two)

    two = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), data)
    mine, expected = jax.device_get(_programs.quickly(all_of, p, two))
    assert_close(mine, expected, 2e-5)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_arrays_over_devices(kind):
    params, data = make(np.float32)
    kinds = (getattr(jax.sharding.AxisType, kind),)
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",), axis_types=kinds)
    p, d = {"w": params["w"], "out": params["out"]}, {"x": data["x"]}

    def program(p, d):
        out = jnp.tanh(d["x"] @ p["w"]) @ p["out"]
        return {n: jnp.mean(out[:, i] ** 2) for i, n in enumerate(NAMES)}

    alone = jax.jit(functools.partial(one_by_one, program))(p, d)
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, PartitionSpec("batch"))
        d = {"x": jax.device_put(d["x"], split)}
        everywhere = NamedSharding(mesh, PartitionSpec())
        p = jax.device_put(p, everywhere)
        grads = jax.jit(hw.head_grads(program))(p, d)[1]
        gram = jax.jit(hw.head_gramian(program))(p, d)[1]
    assert_close(jax.device_get(grads), jax.device_get(alone), 2e-6)
    np.testing.assert_allclose(gram, _programs.gramian(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("heads", [2, HEADS])
def test_operations_without_a_rule_for_stacks(heads):
    """`ragged_dot`, which JAX cannot stack, goes head by head whatever is asked for."""
    rng = np.random.default_rng(0)
    p = {
        "experts": jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32),
        "out": jnp.asarray(rng.normal(size=(4, heads)), jnp.float32),
    }
    x = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)

    def program(p, x):
        h = jax.lax.ragged_dot(x, p["experts"], jnp.array([2, 4], jnp.int32))
        out = jnp.sin(h) @ p["out"]
        return {f"y{i:02}": jnp.mean(out[:, i]) for i in range(heads)}

    def all_of(p, x):
        mine = [hw.head_grads(program, method=m)(p, x)[1] for m in METHODS]
        gram = hw.head_gramian(program, method="batched")(p, x)[1]
        return mine, gram, one_by_one(program, p, x)

    mine, gram, expected = jax.device_get(_programs.quickly(all_of, p, x))
    for grads in mine:
        assert_close(grads, expected, 2e-6)
    np.testing.assert_allclose(gram, _programs.gramian(expected), rtol=1e-5, atol=1e-6)


def test_rows_of_a_stack_apart():
    """Bit for bit, -0 and NaN too; under `vmap` and differentiated."""
    stack = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    stack[2], stack[5, 1] = -0.0, np.nan

    def squares(x):
        return sum(jnp.sum(row**2) for row in _xla.apart(x))

    def all_of(x):
        mapped = jax.vmap(lambda y: jnp.stack(_xla.apart(y)), 1, 1)(x)
        scalars = _xla.apart(x[:, 0] > 0)
        return _xla.apart(x), mapped, scalars, jax.grad(squares)(x)

    rows, mapped, scalars, slope = jax.device_get(jax.jit(all_of)(stack))
    for found in (rows, mapped, _xla.apart(jnp.asarray(stack))):
        assert np.stack(found).tobytes() == stack.tobytes()
    assert scalars == list(stack[:, 0] > 0)
    np.testing.assert_array_equal(slope, 2 * stack)
    made = str(jax.make_jaxpr(_xla.apart)(stack))
    assert made.count("= reduce[") == -(-len(stack) // _xla.CUT_TOGETHER)


def test_components_of_many_heads():
    """A network of its own is a problem of its own: the weights of either alone."""
    params, data = make(np.float32)
    both = {"actor": params, "critic": jax.tree.map(lambda x: x[..., ::-1], params)}

    def program(p, d):
        actor = {f"a{n}": v for n, v in columns(p["actor"], d).items()}
        return actor | {f"c{n}": v for n, v in columns(p["critic"], d).items()}

    balancer = hw.balancers.imtl_g()

    def all_of(p, d):
        names = sorted(jax.eval_shape(program, p, d))
        balanced = hw.balanced_grad(program, balancer)
        _, info, state = balanced(p, balancer.init(names), d)
        alone = {}
        for kind in ("actor", "critic"):
            state_of = balancer.init(NAMES)
            weights = hw.balanced_grad(columns, balancer)(p[kind], state_of, d)[1]
            alone |= {kind[0] + n: w for n, w in weights.weights.items()}
        return info.weights, alone, state.weights

    weights, alone, kept = jax.device_get(_programs.quickly(all_of, both, data))
    assert_close(weights, alone, 1e-5)
    np.testing.assert_array_equal(kept, [weights[n] for n in sorted(weights)])
