"""What the compiled programs cost, in the compiler's own figures.

The bounds are what a plain backward pass costs on the same model; the constants beside
them are measured on CPU with jax 0.10 and 0.12 and leave some room.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests import _compiled
from tests.gradients import _programs


def he(rng, *shape):
    scale = np.sqrt(2.0 / np.prod(shape[:-1]))
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


def mlp(width, heads=8, depth=4, batch=64):
    """A trunk of layers of one width; decoders of two layers."""
    rng = np.random.default_rng(0)
    params = {
        "trunk": [he(rng, width, width) for _ in range(depth)],
        "heads": [[he(rng, width, 32), he(rng, 32, 4)] for _ in range(heads)],
    }

    def program(params, x):
        for w in params["trunk"]:
            x = jnp.tanh(x @ w)
        return {
            f"y{h}": jnp.mean(jnp.square(jnp.tanh(x @ first) @ second))
            for h, (first, second) in enumerate(params["heads"])
        }

    return program, params, he(rng, batch, width)


def convnet(channels=16, heads=4, depth=4, size=24):
    """Pictures [4, size, size, 3]: its activations outweigh its parameters."""
    rng = np.random.default_rng(0)
    widths = [3] + [channels] * depth
    params = {
        "trunk": [he(rng, 3, 3, i, o) for i, o in itertools.pairwise(widths)],
        "heads": [
            [he(rng, 3, 3, channels, 8), he(rng, 1, 1, 8, 2)] for _ in range(heads)
        ],
    }

    def convolve(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout
        )

    def program(params, x):
        for kernel in params["trunk"]:
            x = jnp.tanh(convolve(x, kernel))
        return {
            f"y{h}": jnp.mean(jnp.square(convolve(jnp.tanh(convolve(x, k)), last)))
            for h, (k, last) in enumerate(params["heads"])
        }

    return program, params, he(rng, 4, size, size, 3)


def compiled(function, *args):
    return _compiled.as_users(jax.jit(function).lower(*args))


def flops(function, *args):
    """Of the program as XLA compiles it."""
    found = compiled(function, *args).cost_analysis()
    return (found[0] if isinstance(found, list) else found)["flops"]


def temporary(function, *args):
    """Bytes beside arguments and results."""
    return compiled(function, *args).memory_analysis().temp_size_in_bytes


def nbytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def plain_backward(program):
    """Values and gradient of a weighted sum, by JAX alone."""

    def total(params, x):
        values = program(params, x)
        return sum(0.1 * (h + 1) * values[f"y{h}"] for h in range(len(values)))

    return jax.value_and_grad(total)


NETS = {"mlp": lambda: mlp(width=128), "convnet": convnet}


@functools.cache
def least_flops(net):
    """All values once, and for each head what its gradient adds to its value."""
    program, params, x = NETS[net]()

    def alone(params, x):
        return program(params, x)["y0"]

    heads = len(params["heads"])  # they are alike, the first stands for each
    backward = flops(jax.grad(alone), params, x) - flops(alone, params, x)
    return flops(program, params, x) + heads * backward


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", ["sequential", "batched"])
def test_head_grads_do_nothing_twice(net, method):
    """Measured: 1.000 and 1.023 of the least (mlp), 1.000 and 1.020 (convnet)."""
    program, params, x = NETS[net]()
    mine = flops(hw.head_grads(program, method=method), params, x)
    assert mine <= 1.05 * least_flops(net)


def test_gramian_needs_the_gradients_of_one_parameter_at_a_time():
    """Measured: 2.9 MB, where 10.5 MB is a gradient of every parameter a head."""
    program, params, x = mlp(width=256)
    heads = len(params["heads"])
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(params))
    backward = compiled(plain_backward(program), params, x).memory_analysis()
    bound = backward.temp_size_in_bytes + backward.output_size_in_bytes
    bound += 1.5 * heads * largest

    def from_gradients(params, x):
        return hw.gramian(hw.head_grads(program)(params, x)[1])

    stored = temporary(from_gradients, params, x)
    shared = nbytes(params["trunk"])
    assert stored > 0.9 * heads * shared  # what the bound is against
    for method in ("lockstep", "auto"):
        mine = temporary(hw.head_gramian(program, method=method), params, x)
        assert mine <= bound
        assert mine < 0.4 * stored
        assert mine < heads * nbytes(params) / 3


def test_sequential_gradients_of_a_convnet_need_the_memory_of_one_pass():
    """Measured: 0.99 of a plain backward pass, whose results are not counted."""
    program, params, x = convnet()
    plain = temporary(plain_backward(program), params, x)
    mine = temporary(hw.head_grads(program, method="sequential"), params, x)
    assert mine <= 1.3 * plain
    # The gramian keeps the gradients, which are small here, and no more.
    gram = temporary(hw.head_gramian(program), params, x)
    assert gram <= 1.3 * plain + len(params["heads"]) * nbytes(params)


def test_features_cost_the_private_parts_alone():
    """Far from a pass through the trunk for every head, and under two passes in all."""
    program, params, x = NETS["mlp"]()
    mine = flops(hw.head_gramian(program, wrt="features"), params, x)
    assert mine <= flops(plain_backward(program), params, x)


def test_trunk_is_run_forward_once():
    """The forward products do not grow with the number of heads' gradients."""
    program, params, x = mlp(width=8, heads=3, depth=5)
    jaxpr = jax.make_jaxpr(program)(params, x).jaxpr
    forward = _programs.count(jaxpr, "tanh")
    for transform in (hw.head_grads, hw.head_gramian):
        jaxpr = jax.make_jaxpr(transform(program))(params, x).jaxpr
        assert _programs.count(jaxpr, "tanh") == forward
