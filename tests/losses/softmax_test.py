"""The sums of softmax and labels: sizes, precision, derivatives, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from flax import nnx

import headwise as hw
from headwise.losses import _softmax
from tests import _compiled
from tests import _derivatives


def naive(logits, labels, masked):
    """The sums in float64, a class at a time."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    p = np.where(masked[..., None], 0, np.exp(log_p))
    space = tuple(range(1, labels.ndim))
    is_label = np.stack([labels == c for c in range(z.shape[-1])], -1)
    return (
        np.where(is_label, p, 0).sum(space),
        p.sum(space),
        (p * p).sum(space),
        is_label.sum(space),
        -np.where(is_label, log_p, 0).sum(-1),
    )


# No space, one axis, more positions than a block with and without a divisor, a prime
# number of them; few channels, which are written out, and many.
SHAPES = [
    (3, 4),
    (2, 7, 3),
    (2, 48, 64, 2),
    (1, 2 * 1031, 3),
    (2, 2053, 2),
    (2, 30, 15),
    (2, 30, 16),
    (3, 17),
    (2, 30, 33),
    (2, 48, 64, 17),
    (1, 2 * 1031, 20),
    (2, 2053, 17),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("jit", [False, True])
def test_sums_equal_float64(shape, jit):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=shape).astype(np.float32) * 3
    labels = rng.integers(-2, shape[-1], shape[:-1]).astype(np.int32)
    sums = jax.jit(_softmax.label_sums) if jit else _softmax.label_sums
    got = sums(jnp.array(logits), jnp.array(labels))
    expected = naive(logits, labels, labels == _softmax.MASKED)
    for one, other in zip(got, expected):
        # Of up to 3072 positive terms in blocks; -log p of a sure label has the
        # rounding of log(1 + small), eps.
        np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 3), (1, 2, 33)])
def test_derivatives_of_every_sum(shape):
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        logits = jnp.array(rng.normal(size=shape))
        labels = jnp.array(rng.integers(-2, shape[-1], shape[:-1]), jnp.int32)
        factors = [
            jnp.array(rng.normal(size=x.shape))
            for x in jax.eval_shape(_softmax.label_sums, logits, labels)
        ]

        def mixed(z):
            sums = _softmax.label_sums(z, labels)
            return sum(jnp.sum(f * jnp.sin(x)) for f, x in zip(factors, sums))

        _derivatives.check(mixed, (logits,), 2, ["rev"])
        step = jnp.array(rng.normal(size=shape))
        slope = jax.grad(mixed)

        @jax.jit
        def every_way(z):
            """<slope, step> by either way, and the slope of that by both again."""

            def forward(z):
                return jax.jvp(mixed, (z,), (step,))[1]

            def backward(z):
                return jnp.sum(slope(z) * step)

            once = forward(z), backward(z)
            twice = jax.jvp(forward, (z,), (step,))[1], jax.grad(forward)(z)
            # Forward over reverse, as in a Hessian-vector product.
            return once, twice, jax.jvp(slope, (z,), (step,))[1], jax.grad(backward)(z)

        once, twice, got, expected = every_way(logits)
        np.testing.assert_allclose(*once, rtol=1e-10)
        np.testing.assert_allclose(twice[0], jnp.sum(twice[1] * step), rtol=1e-10)
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.optimized  # millions of positions
@pytest.mark.parametrize(
    ("size", "channels"),
    [
        (1 << 25, 2),
        (6 * 5592407, 2),
        # More channels than are written out, no more positions than the law needs.
        pytest.param((1 << 24) + (1 << 20), 17, marks=pytest.mark.slow),
    ],
)
def test_big_volumes_lose_no_counts(size, channels):
    """Sums of ones end at 2^24 if they are taken one after the other in float32."""
    labels = jnp.zeros((1, size), jnp.int32)
    # At most 16 classes have a share: a power of two, the same in every number.
    p = (np.arange(channels) < 16) / min(channels, 16)
    row = jnp.where(p > 0, 0.0, -1e4).astype(jnp.bfloat16)
    logits = jnp.broadcast_to(row, (1, size, channels))
    sums = jax.jit(_softmax.label_sums)(logits, labels)
    rest = [0] * (channels - 1)
    np.testing.assert_allclose(sums.volume[0], [size, *rest], rtol=1e-6)
    np.testing.assert_allclose(sums.preds[0], size * p, rtol=1e-6)
    np.testing.assert_allclose(sums.intersection[0], [size * p[0], *rest], rtol=1e-6)


@pytest.mark.optimized
@pytest.mark.slow
def test_volume_of_512_cubed():
    """1.3e8 positions: beyond 2^24, and far beyond the largest float16."""
    dtype = jnp.float16
    shape = (1, 512, 512, 512)
    labels = jnp.arange(512, dtype=jnp.int32).reshape(1, 512, 1, 1) % 2
    labels = jnp.broadcast_to(labels, shape)

    @jax.jit
    def gradient(seed, labels):  # no constant: it would be folded for a minute
        logits = jnp.full((*shape, 2), seed, dtype)
        loss = functools.partial(
            hw.losses.dice_ce, targets=labels, dice_weight=1.0, ce_weight=0.0
        )
        value, slope = jax.value_and_grad(lambda z: jnp.sum(loss(z)))(logits)
        return value, jnp.max(jnp.abs(slope.astype(jnp.float32))), slope.dtype == dtype

    value, steepest, same = gradient(jnp.ones((), dtype), labels)
    assert same
    # p = 1/2 everywhere: 1 - 2 * N/4 / (N/2 + N/2); N = 1.3e8 to 1e-6.
    np.testing.assert_allclose(value, 0.5, rtol=1e-6)
    assert np.isfinite(steepest)


@pytest.mark.parametrize("channels", [3, 15, 16, 17, 40])
def test_extreme_logits_and_labels_of_no_class(channels):
    """Where all logits are -1e4, exp(0 - max) would overflow."""
    rng = np.random.default_rng(4)
    shape = (2, 40, channels)
    logits = rng.choice([-1e4, 0.0, 1e4], shape).astype(np.float32)
    logits[:, :8] = -1e4
    labels = rng.integers(-3, channels, shape[:-1])
    loss = functools.partial(hw.losses.dice_ce, ignore=-2)
    value, slope = jax.jit(jax.value_and_grad(lambda z: jnp.sum(loss(z, labels))))(
        jnp.array(logits)
    )
    masked = labels == -2
    inside = np.where(masked, _softmax.MASKED, np.maximum(labels, _softmax.NO_CLASS))
    expected = naive(logits, inside, masked)
    got = _softmax.label_sums(jnp.array(logits), jnp.array(inside))
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-6)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))
    assert not np.any(np.asarray(slope)[masked])


@pytest.mark.parametrize("channels", [4, 8, 15, 16, 17, 19, 32, 64, 118])
def test_memory_is_at_most_1_25_logits(channels):
    """Softmax, integer labels: value and gradient."""
    logits = jax.ShapeDtypeStruct((2, 32, 32, 32, channels), jnp.float32)
    labels = jax.ShapeDtypeStruct((2, 32, 32, 32), jnp.int32)
    size = 2 * 32**3 * channels * 4
    losses = {
        "dice": lambda z, y: hw.losses.dice(z, y, activation=jax.nn.softmax),
        "generalized": lambda z, y: hw.losses.generalized_dice(
            z, y, activation=jax.nn.softmax
        ),
        "cross entropy": hw.losses.cross_entropy,
        "dice_ce": hw.losses.dice_ce,
    }
    if channels > 4:  # keeps four or five arrays [B, *S]
        losses["focal"] = hw.losses.focal
    for name, loss in losses.items():
        gradient = jax.jit(
            jax.value_and_grad(lambda z, y, loss=loss: jnp.mean(loss(z, y)))
        )
        compiled = _compiled.as_users(gradient.lower(logits, labels))
        used = compiled.memory_analysis().temp_size_in_bytes / size
        assert used <= 1.25, (name, used)


def test_fused_dice_equals_dice_of_probabilities():
    """The two ways through the library: sums of labels, and one-hot products."""
    rng = np.random.default_rng(2)
    logits = jnp.array(rng.normal(size=(2, 6, 5, 4)), jnp.float32)
    labels = jnp.array(rng.integers(-1, 4, (2, 6, 5)))
    hot = jax.nn.one_hot(labels, 4)
    for name in ("dice", "iou", "tversky", "generalized_dice"):
        for squared in (False, True):
            loss = functools.partial(getattr(hw.losses, name), squared=squared)

            def fused(z, t, loss=loss):
                return jnp.sum(loss(z, t, activation=jax.nn.softmax))

            def plain(z, t, loss=loss):
                return jnp.sum(loss(jax.nn.softmax(z), t))

            @jax.jit
            def both(z, t, hot, fused=fused, plain=plain):
                one = jax.value_and_grad(fused)(z, t)
                return one, jax.value_and_grad(plain)(z, hot)

            (value, slope), other = both(logits, labels, hot)
            # Both in float32, sums in another order.
            np.testing.assert_allclose(value, other[0], rtol=2e-6)
            np.testing.assert_allclose(slope, other[1], rtol=1e-4, atol=1e-7)


def takes_fast_way(activation):
    """Whether dice with labels and this activation is one of `_softmax.label_sums`."""
    logits, labels = jnp.zeros((2, 6, 3)), jnp.zeros((2, 6), int)
    loss = functools.partial(hw.losses.dice, activation=activation)
    return "name=_label_sums" in str(jax.make_jaxpr(loss)(logits, labels))


def test_softmax_is_known_by_identity():
    assert nnx.softmax is jax.nn.softmax
    assert linen.softmax is jax.nn.softmax
    assert takes_fast_way(jax.nn.softmax)
    assert not takes_fast_way(lambda z: jax.nn.softmax(z))
    assert not takes_fast_way(jax.nn.sigmoid)


@pytest.mark.parametrize("name", ["dice", "iou", "tversky", "generalized_dice"])
def test_softmax_in_a_lambda_gives_the_same_numbers(name):
    rng = np.random.default_rng(5)
    logits = jnp.array(rng.normal(size=(2, 6, 5, 4)), jnp.float32)
    labels = jnp.array(rng.integers(-1, 4, (2, 6, 5)))
    loss = getattr(hw.losses, name)

    @jax.jit
    def both(z, t):
        fast = loss(z, t, activation=nnx.softmax)
        return fast, loss(z, t, activation=lambda z: jax.nn.softmax(z))

    fast, slow = both(logits, labels)
    np.testing.assert_allclose(fast, slow, rtol=2e-6)  # sums in another order


def test_head_gradients_and_routing_go_through():
    rng = np.random.default_rng(3)
    params = {"trunk": jnp.array(rng.normal(size=(3, 4))), "unused": jnp.ones(2)}
    x = jnp.array(rng.normal(size=(2, 6, 3)))
    labels = jnp.array(rng.integers(0, 4, (2, 6)))

    def values_fn(params):
        logits = x @ params["trunk"]
        return {
            "dice_ce": jnp.mean(hw.losses.dice_ce(logits, labels)),
            "focal": jnp.mean(hw.losses.focal(logits, labels)),
        }

    routing = hw.routing(values_fn, params)
    for name in ("dice_ce", "focal"):
        assert routing.reaches[name] == {"trunk": True, "unused": False}
    _, grads = jax.jit(hw.head_grads(values_fn))(params)
    expected = jax.jit(jax.jacrev(values_fn))(params)
    for name, got in grads.items():
        np.testing.assert_allclose(got["trunk"], expected[name]["trunk"], atol=1e-7)
