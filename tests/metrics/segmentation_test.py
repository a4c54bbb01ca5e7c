"""Dice, IoU and accuracy against plain counting; streams; medical habit; errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from tests.metrics import _stream

SHAPES = [(7, 9, 3), (7, 4, 5, 4), (7, 3, 2, 4, 2)]
METRICS = ["dice", "iou"]
dice = jax.jit(hw.metrics.dice, static_argnames="per_example")
iou, pixel_accuracy = jax.jit(hw.metrics.iou), jax.jit(hw.metrics.pixel_accuracy)
COMPILED = {"dice": dice, "iou": iou, "pixel_accuracy": pixel_accuracy}


def data(shape, seed=0):
    """Logits, labels with -1 among them, and a mask."""
    rng = np.random.default_rng(seed)
    preds = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(-1, shape[-1], shape[:-1])
    labels[0] = np.minimum(labels[0], shape[-1] - 2)
    return preds, labels, rng.random(shape[:-1]) < 0.7


def sets(preds, labels, where, ignore):
    """One example: for every class the sets of positions predicted and labelled."""
    classes = range(preds.shape[-1])
    chosen = {c: set() for c in classes}
    true = {c: set() for c in classes}
    for i in np.ndindex(labels.shape):
        if where[i] and labels[i] != ignore:
            chosen[int(np.argmax(preds[i]))].add(i)
            if labels[i] in true:
                true[int(labels[i])].add(i)
    return [(chosen[c], true[c]) for c in classes]


def parts(name, p, t):
    if name == "dice":
        return 2 * len(p & t), len(p) + len(t)
    return len(p & t), len(p | t)


def reference(name, preds, labels, where, ignore, per_example):
    """[C]: by counting in sets."""
    rows = [
        [parts(name, p, t) for p, t in sets(*example, ignore)]
        for example in zip(preds, labels, where)
    ]
    out = []
    for column in zip(*rows):
        if per_example:
            out.append(np.mean([a / b for a, b in column if b] or [np.nan]))
        else:
            above, below = map(sum, zip(*column))
            out.append(above / below if below else np.nan)
    return np.array(out)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("ignore", [None, -1, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", METRICS)
def test_equals_counting_in_sets(name, shape, ignore, per_example):
    preds, labels, where = data(shape)
    metric = functools.partial(
        getattr(hw.metrics, name), ignore=ignore, per_example=per_example
    )
    masks = [None, where, np.arange(7) % 2 == 0]

    @jax.jit
    def of_all(preds, labels, masks):
        return [
            [metric(preds, labels, where=mask, background=b) for b in (True, False)]
            for mask in masks
        ]

    found = of_all(preds, labels, masks)
    for mask, (got, foreground) in zip(masks, found, strict=True):
        full = np.ones(shape[:-1], bool)
        if mask is not None:
            full = np.broadcast_to(
                mask.reshape(mask.shape + (1,) * (full.ndim - mask.ndim)), full.shape
            )
        expected = reference(name, preds, labels, full, ignore, per_example)
        assert got.total.shape == got.count.shape == (shape[-1],)
        np.testing.assert_allclose(got.value, expected, rtol=1e-6)  # one division
        np.testing.assert_allclose(got.mean, np.nanmean(expected), rtol=1e-6)
        np.testing.assert_array_equal(foreground.value, got.value[1:])


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_streams_and_devices_equal_one_pass(name, per_example):
    metric = functools.partial(
        getattr(hw.metrics, name), ignore=-1, per_example=per_example
    )
    preds, labels, where = data((7, 4, 5, 4))
    _stream.assert_adds_up(lambda p, t, w: metric(p, t, where=w), preds, labels, where)


def test_mean_of_batches_would_be_wrong():
    preds, labels, _ = data((7, 4, 5, 4))
    one_pass = np.asarray(iou(preds, labels).value)
    halves = [iou(preds[s], labels[s]).value for s in (np.s_[:1], np.s_[1:])]
    assert np.all(np.abs(np.mean(halves, 0) - one_pass) > 1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_bool_arrays_are_counted_as_they_are(name):
    preds, labels, where = data((7, 4, 5, 4))
    metric = COMPILED[name]
    hard, true = (x[..., None] == np.arange(4) for x in (np.argmax(preds, -1), labels))
    expected = metric(preds, labels, where=where)
    _stream.assert_same(metric(hard, true, where=where), expected)
    _stream.assert_same(metric(hard, labels, where=where), expected)
    # Classes that are not exclusive, and one channel.
    both = np.array([[[True, True], [True, False]]])
    got = metric(both, np.array([[[True, True], [False, True]]]))
    np.testing.assert_allclose(got.value, {"dice": [2 / 3, 2 / 3]}.get(name, [0.5] * 2))
    assert metric(both[..., :1], both[..., :1]).value == 1


def test_examples_without_the_class_do_not_count_in_the_mean_of_examples():
    def hot(*labels):
        return np.eye(3, dtype=np.float32)[np.array(labels)]

    preds = np.stack([hot(0, 1, 1, 1), hot(0, 0, 0, 0), hot(0, 0, 1, 0)])
    labels = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    got = dice(preds, labels, per_example=True)
    # Class 1: 4 / 5, none, 0 (a false alarm counts). Class 2: none at all.
    np.testing.assert_array_equal(got.count, [3, 2, 0])
    np.testing.assert_allclose(got.value[1], 0.4, rtol=1e-6)
    assert np.isnan(got.value[2])
    np.testing.assert_allclose(dice(preds, labels).value[1], 4 / 6)


def test_a_mask_of_one_class_leaves_the_others():
    preds, labels, _ = data((7, 9, 3))
    where = np.ones((7, 9, 3), bool)
    where[:, :, 1] = False
    got = iou(preds, labels, where=where)
    expected = np.asarray(iou(preds, labels).value)
    np.testing.assert_array_equal(got.value, [expected[0], np.nan, expected[2]])


@pytest.mark.parametrize("name", [*METRICS, "pixel_accuracy"])
def test_masked_nan_does_not_count(name):
    preds, labels, where = data((7, 4, 5, 4))
    metric = COMPILED[name]
    spoilt = np.where(where[..., None], preds, np.nan)
    _stream.assert_same(
        metric(spoilt, labels, where=where), metric(preds, labels, where=where)
    )


@pytest.mark.parametrize("ignore", [None, -1, 2])
def test_accuracy_equals_counting(ignore):
    preds, labels, where = data((7, 4, 5, 4))
    got = jax.jit(functools.partial(hw.metrics.pixel_accuracy, ignore=ignore))(
        preds, labels, where=where
    )
    kept = where & (labels != ignore)
    right = (np.argmax(preds, -1) == labels)[kept]
    assert got.total == right.sum()
    assert got.count == kept.sum()
    np.testing.assert_allclose(got.value, right.mean(), rtol=1e-6)


def test_accuracy_of_streams_and_devices_equals_one_pass():
    preds, labels, where = data((7, 4, 5, 4))
    _stream.assert_adds_up(
        lambda p, t, w: hw.metrics.pixel_accuracy(p, t, where=w), preds, labels, where
    )


def test_accuracy_of_nothing_is_nan():
    preds, labels, _ = data((7, 9, 3))
    got = hw.metrics.pixel_accuracy(preds, labels, where=np.zeros(7, bool))
    assert got.count == 0
    assert np.isnan(got.value)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", [*METRICS, "pixel_accuracy"])
def test_half_precision_counts_in_float32(name, dtype):
    preds, labels, _ = data((7, 300, 3))
    half = preds.astype(dtype)
    got = COMPILED[name](half, labels)
    assert got.total.dtype == got.count.dtype == jnp.float32
    _stream.assert_same(got, COMPILED[name](np.float32(half), labels))


def test_large_counts_are_not_lost():
    # 2²⁴ + 4096 positions of class 1, predicted right: float32 sums of ones stop.
    labels = jnp.ones((1, 4097, 4096), jnp.int8)
    preds = jnp.broadcast_to(jnp.arange(2) == 1, (*labels.shape, 2))
    got = jax.jit(hw.metrics.iou)(preds, labels)
    assert got.total[1] == got.count[1] == 4097 * 4096


@pytest.mark.parametrize(
    ("preds", "targets", "options", "error", "text"),
    [
        ((2, 5, 3), (2, 4), {}, ValueError, r"labels \(2, 5\).*\(2, 4\)"),
        ((2, 5, 1), (2, 5), {}, ValueError, r"one channel.*bool"),
        ((5,), (5,), {}, ValueError, r"\[B, \*S, C\].*\(5,\)"),
        (
            (2, 5, 3),
            (2, 5),
            dict(where=np.ones((2, 5))),
            TypeError,
            "where.*bool.*float",
        ),
        (
            (2, 5, 3),
            (2, 5),
            dict(where=np.ones((2, 4), bool)),
            ValueError,
            r"where.*\(2, 5.*\(2, 4\)",
        ),
    ],
)
@pytest.mark.parametrize("name", [*METRICS, "pixel_accuracy"])
def test_misuse_is_a_clear_error(name, preds, targets, options, error, text):
    with pytest.raises(error, match=text):
        getattr(hw.metrics, name)(jnp.ones(preds), jnp.ones(targets, int), **options)


@pytest.mark.parametrize("name", METRICS)
def test_misuse_of_kinds_is_a_clear_error(name):
    metric, ones = getattr(hw.metrics, name), jnp.ones((2, 5, 3))
    with pytest.raises(ValueError, match=r"integer labels \(2, 5\).*preds > 0\.5"):
        metric(ones, ones)
    with pytest.raises(ValueError, match=r"bool \(2, 5, 3\).*float32 \(2, 5, 3\)"):
        metric(ones > 0, ones)
    with pytest.raises(TypeError, match=r"preds.*floating.*int32"):
        metric(jnp.ones((2, 5, 3), int), jnp.ones((2, 5), int))
    with pytest.raises(ValueError, match=r"ignore.*labels"):
        metric(ones > 0, ones > 0, ignore=-1)
    with pytest.raises(ValueError, match="background=False drops channel 0 of 1"):
        metric(ones[..., :1] > 0, ones[..., :1] > 0, background=False)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (dict(ignore=2.5), ValueError, r"ignore: expected an int, got 2\.5"),
        (dict(background=1), TypeError, "background: expected True or False, got 1"),
        (dict(per_example="no"), TypeError, "per_example: expected True or False"),
    ],
)
def test_bad_options(options, error, text):
    preds, labels = np.ones((2, 5, 3), np.float32), np.zeros((2, 5), int)
    for metric in (hw.metrics.dice, hw.metrics.iou):
        with pytest.raises(error, match=text):
            metric(preds, labels, **options)
