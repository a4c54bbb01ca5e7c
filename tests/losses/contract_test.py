"""What every loss promises, as one battery over all of `hw.losses`."""

import functools
import random
import re
from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import headwise as hw
from tests.losses import _reference

SHAPES = {"1-D": (2, 5, 3), "2-D": (2, 3, 4, 3), "3-D": (2, 2, 3, 2, 3)}
ACTIVATIONS = {None: None, "softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}
FLAGS = [False, True]

# float32 against float64: sums of up to 24 terms, and of weights up to 1 / volume²,
# keep 5 digits (eps = 6e-8, and differences of numbers near 1 lose no more than two).
CLOSE = dict(rtol=2e-5, atol=2e-6)


class Entry(NamedTuple):
    loss: Callable
    reference: Callable
    options: Mapping = MappingProxyType({})
    traced: Mapping = MappingProxyType({})
    """Hyper-parameters that may be traced: two values of each."""
    targets: tuple = ("labels", "one-hot", "soft")


REGION = dict(
    activation=list(ACTIVATIONS),
    smooth=[1e-5, 0.0, 1.0, (0.5, 2.0)],
    squared=FLAGS,
    background=[True, False],
    class_weights=[None, np.array([0.5, 2.0, 0.0])],
    over_batch=FLAGS,
)
TRACED = dict(smooth=(1e-5, 1.0), class_weights=(np.ones(3), np.array([0.5, 2.0, 0.0])))

ENTRIES = {
    "dice": Entry(hw.losses.dice, _reference.dice, REGION, TRACED),
    "iou": Entry(hw.losses.iou, _reference.iou, REGION, TRACED),
    "tversky": Entry(
        hw.losses.tversky,
        _reference.tversky,
        REGION | dict(alpha=[0.5, 0.2, 1.0], beta=[0.5, 0.8, 2.0]),
        TRACED | dict(alpha=(0.2, 0.7), beta=(0.8, 0.3)),
    ),
    "generalized_dice": Entry(
        hw.losses.generalized_dice,
        _reference.generalized_dice,
        REGION | dict(weighting=["square", "simple", "uniform"]),
        TRACED,
    ),
    "mix": Entry(
        hw.losses.mix(
            {"dice": (hw.losses.dice, 0.7), "l2": (optax.losses.squared_error, 0.3)}
        ),
        _reference.dice_and_squared_error,
        targets=("one-hot", "soft"),
    ),
}
NAMES = sorted(hw.losses.__all__)
REGIONS = [name for name in NAMES if name != "mix"]
every_loss = pytest.mark.parametrize("name", NAMES)
every_region_loss = pytest.mark.parametrize("name", REGIONS)


def test_every_loss_has_an_entry():
    assert sorted(ENTRIES) == NAMES


def make_preds(rng, shape, activation=None):
    if activation is None:
        return rng.uniform(0.05, 0.95, shape).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32)


def make_targets(rng, shape, kind):
    if kind == "soft":
        return rng.uniform(size=shape).astype(np.float32)
    # -1 is no class; class 2 is absent from the first example.
    labels = rng.integers(-1, shape[-1], shape[:-1])
    labels[0] = np.minimum(labels[0], 1)
    if kind == "labels":
        return labels
    return np.stack([labels == c for c in range(shape[-1])], -1).astype(np.float32)


def make_where(rng, shape, kind):
    shapes = {
        None: None,
        "example": shape[:1],
        "position": shape[:-1],
        "position of all examples": (1, *shape[1:-1]),
        "channel axis of 1": (*shape[:-1], 1),
        "entry": shape,
        "class of example": (shape[0], *(1 for _ in shape[1:-1]), shape[-1]),
    }
    return None if kind is None else rng.random(shapes[kind]) < 0.7


WHERE = [
    None,
    "example",
    "position",
    "position of all examples",
    "channel axis of 1",
    "entry",
    "class of example",
]


def draws(name, shape, count, seed=0):
    """Random members of the product of all options: (preds, targets, options)."""
    entry, choose = ENTRIES[name], random.Random(f"{name} {shape} {seed}")
    rng = np.random.default_rng(len(shape) + seed)
    # Each draw has another mask and the next form of targets, so all occur.
    for i in range(count):
        options = {key: choose.choice(values) for key, values in entry.options.items()}
        preds = make_preds(rng, shape, options.get("activation"))
        targets = make_targets(rng, shape, entry.targets[i % len(entry.targets)])
        where = make_where(rng, shape, WHERE[i % len(WHERE)])
        yield preds, targets, options | dict(where=where)


def bind(name, options):
    """The loss as a function of the arrays alone."""
    options = dict(options)
    if "activation" in options:
        options["activation"] = ACTIVATIONS[options["activation"]]
    return functools.partial(ENTRIES[name].loss, **options)


def example(name, shape=(2, 5, 3)):
    """Predictions in (0, 1) and one-hot targets: what every loss takes."""
    rng = np.random.default_rng(7)
    return jnp.array(make_preds(rng, shape)), jnp.array(
        make_targets(rng, shape, "one-hot")
    )


def both(one, other):
    """A pattern for texts that hold both, in any order."""
    return f"(?s)(?=.*{re.escape(one)})(?=.*{re.escape(other)})"


def total(name, **options):
    return lambda preds, targets: jnp.sum(ENTRIES[name].loss(preds, targets, **options))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@every_loss
def test_equals_naive_float64(name, shape):
    for preds, targets, options in draws(name, shape, count=14):
        got = bind(name, options)(preds, targets)
        expected = ENTRIES[name].reference(preds, targets, **options)
        np.testing.assert_allclose(got, expected, **CLOSE, err_msg=str(options))


@every_loss
def test_shape_of_the_result(name):
    preds, targets = example(name, (4, 5, 3))
    shape = (4,) if name in ("generalized_dice", "mix") else (4, 3)
    assert ENTRIES[name].loss(preds, targets).shape == shape


@every_loss
def test_jit_equals_eager(name):
    for preds, targets, options in draws(name, (2, 5, 3), count=3, seed=1):
        loss = bind(name, options)
        # The same operations, fused: the last float32 digits may differ.
        np.testing.assert_allclose(
            jax.jit(loss)(preds, targets), loss(preds, targets), rtol=1e-5, atol=1e-6
        )


@every_loss
def test_vmap_equals_loop(name):
    for preds, targets, options in draws(name, (2, 5, 3), count=3, seed=2):
        loss = bind(name, options)
        stacks = np.stack([preds, preds[::-1], preds**2]), np.stack([targets] * 3)
        expected = [loss(p, t) for p, t in zip(*stacks)]
        # As above: sums in another order.
        np.testing.assert_allclose(
            jax.vmap(loss)(*stacks), np.stack(expected), rtol=1e-5, atol=1e-6
        )


@every_loss
def test_derivatives_of_order_1_and_2(name):
    with jax.enable_x64(True):
        for preds, targets, options in draws(name, (2, 2, 3), count=2, seed=3):
            loss = jax.jit(functools.partial(bind(name, options), targets=targets))
            preds = jnp.asarray(preds, jnp.float64)
            check_grads(loss, (preds,), order=2, modes=["rev"])


@every_loss
@pytest.mark.parametrize("smooth", [1e-5, 0.0])
def test_finite_at_the_edges(name, smooth):
    ones, zeros = jnp.ones((1, 4, 2)), jnp.zeros((1, 4, 2))
    first = jnp.stack([ones[..., 0], zeros[..., 0]], -1)
    edges = [ones, zeros, first, first[..., ::-1]]
    options = dict(smooth=smooth) if name in REGIONS else {}
    gradient = jax.value_and_grad(total(name, **options))
    for preds in edges:
        for targets in edges:
            value, grads = gradient(preds, targets)
            assert np.isfinite(value)
            assert np.all(np.isfinite(grads))


@every_region_loss
def test_finite_at_extreme_logits(name):
    logits = jnp.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [0.0, -1e4]]])
    gradient = jax.value_and_grad(total(name, activation=jax.nn.softmax))
    for labels in [[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]]:
        value, grads = gradient(logits, jnp.array([labels]))
        assert np.isfinite(value)
        assert np.all(np.isfinite(grads))


@every_loss
def test_perfect_is_0_and_worse_is_more(name):
    _, targets = example(name)
    loss = ENTRIES[name].loss
    # smooth = 1e-5 above and below cancels to the last digit of float32.
    np.testing.assert_allclose(loss(targets, targets), 0.0, atol=1e-6)
    assert jnp.sum(loss(0.5 * targets, targets)) > 0.1
    assert jnp.all(loss(1.0 - targets, targets) > 0.1)


@every_loss
def test_where_equals_slicing_out(name):
    preds, targets = example(name, (2, 6, 3))
    keep = np.array([True, False, True, True, False, True])
    got = ENTRIES[name].loss(preds, targets, where=keep[None])
    # The same sums with zeros in between.
    np.testing.assert_allclose(
        got, ENTRIES[name].loss(preds[:, keep], targets[:, keep]), rtol=1e-6
    )


@every_loss
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_values_leak_nowhere(name, bad):
    preds, targets = example(name)
    where = np.ones((2, 5), bool)
    where[0, 1] = where[1, 3:] = False
    hidden = ~where[..., None]
    gradient = jax.value_and_grad(total(name, where=where))
    value, grads = gradient(
        jnp.where(hidden, bad, preds), jnp.where(hidden, bad, targets)
    )
    expected_value, expected_grads = gradient(preds, targets)
    np.testing.assert_array_equal(value, expected_value)
    np.testing.assert_array_equal(grads, expected_grads)
    assert not np.any(grads[~where])
    assert np.any(grads[where])


@every_region_loss
def test_masked_nan_passes_no_activation(name):
    preds, targets = example(name)
    where = np.ones(preds.shape, bool)
    where[0, 1] = where[1, 3, 2] = False
    gradient = jax.value_and_grad(
        total(name, where=where, activation=jax.nn.softmax), argnums=0
    )
    value, grads = gradient(jnp.where(where, preds, jnp.nan), targets)
    assert np.isfinite(value)
    assert np.all(np.isfinite(grads))
    assert not np.any(grads[~where])


@every_region_loss
def test_mask_of_one_channel_leaves_the_softmax_alone(name):
    logits, targets = example(name)
    where = np.ones(logits.shape, bool)
    where[:, :, 2] = False
    loss = ENTRIES[name].loss
    np.testing.assert_array_equal(
        loss(logits, targets, where=where, activation=jax.nn.softmax),
        loss(jax.nn.softmax(logits), targets, where=where),
    )


@every_loss
def test_all_masked_is_0_with_zero_gradient(name):
    preds, targets = example(name)
    where = np.zeros((2, 5), bool)
    loss = ENTRIES[name].loss
    np.testing.assert_array_equal(loss(preds, targets, where=where), 0.0)
    grads = jax.grad(total(name, where=where))(preds, targets)
    np.testing.assert_array_equal(grads, 0.0)


@every_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_in_float32_out(name, dtype):
    preds, targets = (x.astype(dtype) for x in example(name, (2, 300, 3)))
    got = ENTRIES[name].loss(preds, targets)
    assert got.dtype == jnp.float32
    expected = ENTRIES[name].loss(
        preds.astype(jnp.float32), targets.astype(jnp.float32)
    )
    # Dice and its kin sum in float32 and agree to rounding. A part of a mixture that
    # is not ours squares in half precision: 8 bits of mantissa, 2⁻⁸ = 0.004.
    rtol = 0.004 if name == "mix" else 1e-6
    np.testing.assert_allclose(got, expected, rtol=rtol)


@every_loss
def test_float64_stays(name):
    with jax.enable_x64(True):
        preds, targets = (x.astype(jnp.float64) for x in example(name))
        got = ENTRIES[name].loss(preds, targets)
        assert got.dtype == jnp.float64
        expected = ENTRIES[name].reference(np.array(preds), np.array(targets))
        np.testing.assert_allclose(got, expected, rtol=1e-13)  # a few float64 digits


@every_region_loss
def test_one_trace_for_all_hyper_parameters(name):
    entry, traces = ENTRIES[name], []
    preds, targets = example(name)

    @jax.jit
    def loss(preds, targets, hyper):
        traces.append(None)
        return entry.loss(preds, targets, **hyper)

    for i in range(2):
        hyper = {key: values[i] for key, values in entry.traced.items()}
        expected = entry.reference(np.array(preds), np.array(targets), **hyper)
        np.testing.assert_allclose(loss(preds, targets, hyper), expected, **CLOSE)
    assert len(traces) == 1


def test_one_trace_for_all_weights_of_a_mixture():
    preds, targets = example("mix")
    traces = []

    @jax.jit
    def mixed(a, b):
        traces.append(None)
        return hw.losses.mix({"a": (hw.losses.dice, a), "b": (hw.losses.iou, b)})(
            preds, targets
        )

    alone = jnp.mean(hw.losses.dice(preds, targets), -1)
    np.testing.assert_allclose(mixed(1.0, 0.0), alone, rtol=1e-6)  # one rounding
    np.testing.assert_allclose(mixed(3.0, 0.0), 3 * alone, rtol=1e-6)
    assert len(traces) == 1


@every_loss
def test_order_of_positions_is_irrelevant(name):
    preds, targets = example(name, (2, 3, 4, 3))
    where = np.random.default_rng(0).random((2, 3, 4)) < 0.7
    order = np.random.default_rng(1).permutation(12)
    loss = ENTRIES[name].loss

    def shuffled(x):
        return x.reshape(2, 12, *x.shape[3:])[:, order]

    np.testing.assert_allclose(
        loss(shuffled(preds), shuffled(targets), where=shuffled(where)),
        loss(preds, targets, where=where),
        rtol=1e-5,  # sums in another order
    )


@every_loss
def test_mismatched_shapes_are_both_named(name):
    with pytest.raises(ValueError, match=both("(2, 5, 3)", "(2, 4, 3)")):
        ENTRIES[name].loss(jnp.ones((2, 5, 3)), jnp.ones((2, 4, 3)))


@every_loss
def test_mask_that_does_not_fit_is_named(name):
    preds, targets = example(name)
    with pytest.raises(ValueError, match=both("(2, 5, 3)", "(2, 4)")):
        ENTRIES[name].loss(preds, targets, where=np.ones((2, 4), bool))
    with pytest.raises(TypeError, match=r"where.*bool.*float"):
        ENTRIES[name].loss(preds, targets, where=jnp.ones((2, 5)))


MISUSE = {
    "preds without channels": (
        dict(preds=jnp.ones(4)),
        ValueError,
        r"\[B, \*S, C\].*\(4,\)",
    ),
    "integer preds": (dict(preds=jnp.ones((2, 5, 3), int)), TypeError, "floating.*int"),
    "labels for one channel": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.zeros((2, 5), int)),
        ValueError,
        r"two or more channels.*\(2, 5, 1\)",
    ),
    "floating labels": (
        dict(targets=jnp.zeros((2, 5))),
        ValueError,
        r"\(2, 5, 3\).*integer labels \(2, 5\).*float32 \(2, 5\)",
    ),
    "no class left": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.ones((2, 5, 1)), background=False),
        ValueError,
        "background=False drops channel 0 of 1",
    ),
    "activation by name": (
        dict(activation="softmax"),
        TypeError,
        "callable.*'softmax'",
    ),
    "three smooths": (dict(smooth=(1.0, 1.0, 1.0)), ValueError, "smooth.*3 entries"),
    "class weights of another length": (
        dict(class_weights=jnp.ones(2)),
        ValueError,
        r"class_weights.*\(3,\).*\(2,\)",
    ),
    "class weights without background": (
        dict(class_weights=jnp.ones(2), background=False),
        ValueError,
        r"class_weights.*\(3,\).*background included.*\(2,\)",
    ),
}


@every_region_loss
@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_a_clear_error(name, case):
    arguments, error, text = MISUSE[case]
    preds, targets = example(name)
    with pytest.raises(error, match=text):
        ENTRIES[name].loss(**dict(preds=preds, targets=targets) | arguments)


def test_unknown_weighting():
    preds, targets = example("generalized_dice")
    with pytest.raises(ValueError, match=r"weighting.*square.*'cubic'"):
        hw.losses.generalized_dice(preds, targets, weighting="cubic")
