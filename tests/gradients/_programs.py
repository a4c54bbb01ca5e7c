"""Models with two or more heads, in every way that one may write them down.

Each is a function `(params, x) -> {name: scalar}` of the parameters of `make_params`.
The reference is JAX's own reverse mode, head by head; what is compared with it shares
nothing with it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

X = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.5]])
SHAPES = {
    "A": (3, 4),
    "B": (4, 4),
    "C": (4, 2),
    "D": (4, 1),
    "E": (4, 4),
    "layers": (3, 4, 4),
    "scale": (),
}


def make_params(seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(0.5 * rng.normal(size=shape), dtype)
        for name, shape in SHAPES.items()
    }


def trunk(params, x):
    return jnp.tanh(jnp.tanh(x @ params["A"]) @ params["B"])


def heads(params, h):
    return {
        "y1": jnp.sum(jnp.square(h @ params["C"])),
        "y2": jnp.mean(jnp.abs(h @ params["D"])),
    }


def plain(params, x):
    return heads(params, trunk(params, x))


def nested_jit(params, x):
    @jax.jit
    def layer(h, w):
        return jnp.tanh(h @ w)

    @jax.jit
    def decoders(params, h):
        return jax.jit(heads)(params, h)

    @jax.jit
    def model(params, x):
        h = layer(layer(x, params["A"]), params["B"])
        return decoders(params, h)

    return jax.jit(lambda p, x: model(p, x))(params, x)


def jit_with_shardings(params, x):
    """One jit that says where its arguments lie, and one that says nothing."""
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    model = jax.jit(plain, in_shardings=(everywhere, everywhere))
    return model(params, x) | {"y3": jnp.sum(jax.jit(trunk)(params, x))}


def scanned(params, x):
    def body(h, _):
        return jnp.tanh(h @ params["B"]), jnp.sum(h @ params["D"])

    h, each = jax.lax.scan(body, x @ params["A"], None, length=3)
    return {"y1": jnp.sum(jnp.square(h @ params["C"])), "y2": jnp.sum(jnp.sin(each))}


def scanned_layers(params, x):
    def body(h, w):
        return jnp.tanh(h @ w), jnp.mean(h)

    h, means = jax.lax.scan(body, x @ params["A"], params["layers"])
    return heads(params, h) | {"y3": jnp.sum(means * params["scale"])}


def remat(params, x):
    return heads(params, jax.checkpoint(trunk)(params, x))


def remat_of_each_layer(params, x):
    layer = jax.checkpoint(lambda h, w: jnp.tanh(h @ w))
    h = layer(layer(layer(x, params["A"]), params["B"]), params["E"])
    return heads(params, h) | {"y3": jnp.sum(layer(h, params["E"]))}


def remat_of_all(params, x):
    return jax.checkpoint(plain)(params, x)


def remat_with_policy(params, x):
    policy = jax.checkpoint_policies.dots_saveable
    return jax.checkpoint(plain, policy=policy)(params, x)


@jax.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def cube_jvp(primals, tangents):
    # Not the true derivative, so that a wrong path would be seen.
    return cube(*primals), 5.0 * tangents[0]


@jax.custom_vjp
def scaled(x, y):
    return x * y


scaled.defvjp(
    lambda x, y: (scaled(x, y), (x, y)),
    lambda kept, ct: (7.0 * kept[1] * ct, jnp.zeros_like(kept[0])),
)


def with_custom_jvp(params, x):
    return heads(params, cube(x @ params["A"]) @ params["B"])


def with_custom_vjp(params, x):
    h = x @ params["A"]
    return heads(params, scaled(h, h @ params["B"]))


def tied(params, x):
    h = jnp.tanh(x @ params["A"] @ params["B"]) @ params["B"].T
    return heads(params, h) | {"y3": jnp.sum(h @ params["A"].T)}


def shared_and_private(params, x):
    """B is a layer of the trunk and once more the decoder of y1 alone."""
    h = trunk(params, x)
    return heads(params, h) | {"y1": jnp.sum(jnp.sin(h @ params["B"]))}


def embedded(params, x):
    ids = jnp.array([0, 2, 2, 1])
    return heads(params, params["A"][ids] @ params["B"])


def reaches_nothing(params, x):
    constant = jnp.sum(jax.lax.stop_gradient(params["A"]))
    return heads(params, x @ params["A"]) | {"y3": constant, "y4": jnp.sum(x)}


def hierarchical(params, x):
    """y1 and y2 share a decoder; y3 has the trunk alone."""
    h = trunk(params, x)
    middle = jnp.sin(h @ params["E"])
    return heads(params, middle) | {"y3": jnp.sum(jnp.cos(h))}


def two_decoders(params, x):
    """The middles of y1, y2 and of y2, y3: neither set of heads holds the other."""
    h = trunk(params, x)
    left, right = jnp.sin(h @ params["E"]), jnp.cos(h @ params["layers"][0])
    return {
        "y1": jnp.sum(left @ params["C"]),
        "y2": jnp.sum(left * right),
        "y3": jnp.mean(jnp.abs(right @ params["D"])),
    }


def skips(params, x):
    """A U-Net without its pictures: the decoders take features of every depth."""
    one = jnp.tanh(x @ params["A"])
    two = jnp.tanh(one @ params["B"])
    three = jnp.tanh(two @ params["E"])
    deep = {"y1": jnp.concatenate([one, three], -1), "y2": two + three}
    return {
        "y1": jnp.sum(jnp.square(deep["y1"])),
        "y2": jnp.mean(deep["y2"] @ params["D"]),
        "y3": jnp.sum(one @ params["C"]),
    }


def attention(params, x):
    tokens = jnp.stack([x @ params["A"], jnp.sin(x @ params["A"])])  # [2, T, 4]
    q, k, v = (
        jnp.reshape(tokens @ w, (2, -1, 2, 2))
        for w in (params["B"], params["E"], params["layers"][0])
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    h = tokens + jnp.reshape(mixed, tokens.shape)
    return heads(params, h)


def value_is_a_parameter(params, x):
    h = trunk(params, x)
    return {
        "y1": params["scale"],
        "y2": jnp.sum(params["scale"] * h),
        "y3": jnp.sum(jnp.square(h)),
    }


def identical(params, x):
    value = jnp.sum(jnp.square(trunk(params, x) @ params["C"]))
    return {"y1": value, "y2": value, "y3": 2.0 * value}


def feeds_another(params, x):
    """y1 is a step on the way to y2, and y3 is their product."""
    y1 = jnp.sum(trunk(params, x) @ params["C"])
    y2 = jnp.sin(y1) * params["scale"]
    return {"y1": y1, "y2": y2, "y3": y1 * y2}


def conditional(params, x):
    h = jax.lax.cond(
        jnp.sum(x) > 0,
        lambda p: jnp.tanh(x @ p["A"] @ p["B"]),
        lambda p: jnp.sin(x @ p["A"]),
        params,
    )
    return heads(params, h)


def conditional_heads(params, x):
    return jax.lax.cond(
        jnp.max(x) > 5.0,
        lambda p, h: {"y1": jnp.sum(h), "y2": jnp.sum(h @ p["E"])},
        lambda p, h: heads(p, h),
        params,
        trunk(params, x),
    )


def decay(params, x):
    """A head on the parameters themselves, shared and private alike."""
    return plain(params, x) | {
        "y3": sum(jnp.sum(jnp.square(leaf)) for leaf in params.values())
    }


def heads_in_one_array(params, x):
    """The decoders are one stacked parameter, run by vmap, and taken apart."""
    h = trunk(params, x)
    values = jax.vmap(lambda w: jnp.sum(jnp.sin(h @ w)))(params["layers"])
    return {f"y{i}": values[i] for i in range(3)}


def per_example(params, x):
    return jax.tree.map(jnp.mean, jax.vmap(plain, in_axes=(None, 0))(params, x))


def physics(params, x):
    """A head on the derivative of the network with respect to its input."""

    def u(x):
        return jnp.sum(trunk(params, x) @ params["C"])

    slope = jax.vmap(jax.grad(u))(x)
    return {
        "y1": jnp.mean(jax.vmap(u)(x)),
        "y2": jnp.sum(jnp.square(slope - 1.0)),
        "y3": jnp.mean(jnp.abs(trunk(params, x) @ params["D"])),
    }


def convolution(params, x):
    image = jnp.reshape(jnp.tile(x, (2, 4)), (1, 6, 8, 1))
    kernel = jnp.reshape(params["layers"], (3, 4, 1, 4))
    layout = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", None, None, layout)
    h = jnp.tanh(h)
    return heads(params, h + params["scale"])


def solved(params, x):
    """A linear system and a Fourier transform in the trunk."""
    h = trunk(params, x)
    matrix = 3.0 * jnp.eye(4, dtype=h.dtype) + jnp.tanh(params["E"])
    h = jnp.linalg.solve(matrix, h.T).T
    power = jnp.abs(jnp.fft.fft(h)) ** 2
    return heads(params, h) | {"y3": jnp.sum(power[..., :2])}


PROGRAMS = {
    program.__name__: program
    for program in (
        plain,
        nested_jit,
        jit_with_shardings,
        scanned,
        scanned_layers,
        remat,
        remat_of_each_layer,
        remat_of_all,
        remat_with_policy,
        with_custom_jvp,
        with_custom_vjp,
        tied,
        shared_and_private,
        embedded,
        reaches_nothing,
        hierarchical,
        two_decoders,
        skips,
        attention,
        value_is_a_parameter,
        identical,
        feeds_another,
        conditional,
        conditional_heads,
        decay,
        heads_in_one_array,
        per_example,
        physics,
        convolution,
        solved,
    )
}


def one_by_one(program, params, *args):
    """The reference: every head differentiated alone, by JAX's own reverse mode."""
    names = sorted(jax.eval_shape(program, params, *args))
    return {n: jax.grad(lambda p, n=n: program(p, *args)[n])(params) for n in names}


def jacobian(grads):
    """[H, P] in float64 or complex128, rows in sorted order of the names."""
    rows = [
        np.concatenate([np.ravel(np.asarray(g)) for g in jax.tree.leaves(grads[name])])
        for name in sorted(grads)
    ]
    kind = np.complex128 if np.iscomplexobj(rows[0]) else np.float64
    return np.stack(rows).astype(kind)


def gramian(grads):
    """Re J Jᴴ in float64 NumPy."""
    rows = jacobian(grads)
    return (rows @ rows.conj().T).real


def assert_close(got, expected, rtol):
    """Equal trees, up to `rtol` of each entry and of 1."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        kind = np.complex128 if np.iscomplexobj(a) else np.float64
        a, b = np.asarray(a, kind), np.asarray(b, kind)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def quickly(function, *args):
    """`jax.jit(function)(*args)`, compiled with the compiler's optimiser off.

    The programs here are small and run once: compiling them is what takes time.
    """
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function, compiler_options=options)(*args)


def count(jaxpr, primitive):
    """Occurrences in a program and in the programs inside it."""
    found = 0
    for eqn in jaxpr.eqns:
        found += eqn.primitive.name == primitive
        for value in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            found += count(inner, primitive) if hasattr(inner, "eqns") else 0
    return found
