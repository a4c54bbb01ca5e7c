"""Models with a trunk and equal decoders, to measure head gradients on."""

import functools
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import headwise as hw


class Model(NamedTuple):
    """A trunk and some equal decoders."""

    trunk: Callable[[dict, jax.Array], jax.Array]
    decoder: Callable[[dict, jax.Array], jax.Array]
    params: dict
    inputs: jax.Array


def values_fn(model: Model, params: dict, x: jax.Array) -> dict[str, jax.Array]:
    """The mean square of each decoder's output minus a constant."""
    features = model.trunk(params["trunk"], x)
    return {
        name: jnp.mean(jnp.square(model.decoder(params[name], features) - i))
        for i, name in enumerate(sorted(params.keys() - {"trunk"}))
    }


def _model(heads: int, trunk: Any, decoder: Any, make_trunk: Any, make: Any, x: Any):
    keys = jax.random.split(jax.random.key(0), heads + 1)
    params = {f"head{i:02}": make(key) for i, key in enumerate(keys[1:])}
    return Model(trunk, decoder, {"trunk": make_trunk(keys[0])} | params, x)


def _weights(key: jax.Array, shapes: dict[str, tuple[int, ...]]) -> dict:
    """Gaussian, scaled to keep the size of activations; the last axis is the output."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(k, shape) / np.sqrt(np.prod(shape[:-1]))
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def mlp(heads: int, hidden: int = 1) -> Model:
    """Four layers of 512, batch 256; decoders 512 -> 512 -> 1."""

    def trunk(p: dict, x: jax.Array) -> jax.Array:
        for layer in sorted(p):
            x = jnp.tanh(x @ p[layer])
        return x

    def decoder(p: dict, x: jax.Array) -> jax.Array:
        return trunk(p["hidden"], x) @ p["out"]

    def layers(key: jax.Array, count: int) -> dict:
        return _weights(key, {f"layer{i}": (512, 512) for i in range(count)})

    def make(key: jax.Array) -> dict:
        return {"hidden": layers(key, hidden)} | _weights(key, {"out": (512, 1)})

    return _model(
        heads,
        trunk,
        decoder,
        functools.partial(layers, count=4),
        make,
        jax.random.normal(jax.random.key(1), (256, 512)),
    )


def mlp_deep(heads: int) -> Model:
    """Four layers of 512, batch 256; decoders of four such layers each."""
    return mlp(heads, hidden=4)


def conv2d(heads: int) -> Model:
    """Four 3x3 convolutions, 32 channels, 8 images of 32^2; decoders of two more."""
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

    def trunk(p: dict, x: jax.Array) -> jax.Array:
        for layer in sorted(p):
            x = jax.nn.relu(convolve(x, p[layer]))
        return x

    def decoder(p: dict, x: jax.Array) -> jax.Array:
        return convolve(jax.nn.relu(convolve(x, p["hidden"])), p["out"])

    widths = [3, 32, 32, 32, 32]
    shapes = {f"layer{i}": (3, 3, *widths[i : i + 2]) for i in range(4)}
    return _model(
        heads,
        trunk,
        decoder,
        lambda key: _weights(key, shapes),
        lambda key: _weights(key, {"hidden": (3, 3, 32, 32), "out": (1, 1, 32, 2)}),
        jax.random.normal(jax.random.key(1), (8, 32, 32, 3)),
    )


def conv3d(heads: int) -> Model:
    """Two 3x3x3 convolutions, 16 channels, 2 volumes of 16^3; decoders of one."""
    data, kernel = (0, 4, 1, 2, 3), (4, 3, 0, 1, 2)
    convolve = functools.partial(
        hw.nn.matmul_convolution,
        window_strides=(1, 1, 1),
        padding="SAME",
        dimension_numbers=jax.lax.ConvDimensionNumbers(data, kernel, data),
    )

    def trunk(p: dict, x: jax.Array) -> jax.Array:
        for layer in sorted(p):
            x = jax.nn.relu(convolve(x, p[layer]))
        return x

    def decoder(p: dict, x: jax.Array) -> jax.Array:
        return jax.nn.relu(convolve(x, p["hidden"])) @ p["out"]

    widths = [1, 16, 16]
    shapes = {f"layer{i}": (3, 3, 3, *widths[i : i + 2]) for i in range(2)}
    return _model(
        heads,
        trunk,
        decoder,
        lambda key: _weights(key, shapes),
        lambda key: _weights(key, {"hidden": (3, 3, 3, 16, 16), "out": (16, 2)}),
        jax.random.normal(jax.random.key(1), (2, 16, 16, 16, 1)),
    )


def transformer(heads: int, width: int = 128) -> Model:
    """A pre-norm block of width 128, 8 sequences of 64; linear decoders."""
    parts = 4

    def norm(x: jax.Array) -> jax.Array:
        return jax.nn.standardize(x, axis=-1)

    def trunk(p: dict, x: jax.Array) -> jax.Array:
        for block in sorted(p):
            w = p[block]
            q, k, v = jnp.split(norm(x) @ w["qkv"], 3, axis=-1)
            split = functools.partial(jnp.reshape, shape=(*x.shape[:2], parts, -1))
            mixed = jax.nn.dot_product_attention(split(q), split(k), split(v))
            x = x + mixed.reshape(x.shape) @ w["out"]
            x = x + jax.nn.gelu(norm(x) @ w["up"]) @ w["down"]
        return norm(x)

    def decoder(p: dict, x: jax.Array) -> jax.Array:
        return x @ p["out"]

    shapes: dict[str, tuple[int, ...]] = {
        "qkv": (width, 3 * width),
        "out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }

    def make_trunk(key: jax.Array) -> dict:
        return {"block": _weights(key, shapes)}

    return _model(
        heads,
        trunk,
        decoder,
        make_trunk,
        lambda key: _weights(key, {"out": (width, 16)}),
        jax.random.normal(jax.random.key(1), (8, 64, width)),
    )


def transformer_wide(heads: int) -> Model:
    """A pre-norm block of width 512, 8 sequences of 64; linear decoders."""
    return transformer(heads, width=512)


MODELS = {
    "mlp": mlp,
    "mlp_deep": mlp_deep,
    "conv2d": conv2d,
    "conv3d": conv3d,
    "transformer": transformer,
    "transformer_wide": transformer_wide,
}
