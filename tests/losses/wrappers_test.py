"""What a loss declares goes through whatever stands around it; weight 0 is removed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.losses import _compiled

rng = np.random.default_rng(0)
LOGITS = jnp.array(rng.normal(size=(2, 4, 3)), jnp.float32)
LABELS = jnp.array([[0, 1, 2, 0], [255] * 4])  # the second example has no label
ignoring = functools.partial(hw.losses.cross_entropy, ignore=255)
mix, deep = hw.losses.mix, hw.losses.deep_supervision


def hides(preds, targets):
    return hw.losses.cross_entropy(preds, targets, ignore=255)


def forwards(preds, targets, **options):
    return hw.losses.cross_entropy(preds, targets, ignore=255, **options)


@functools.wraps(hw.losses.cross_entropy)
def dressed(preds, targets, **options):
    return hw.losses.cross_entropy(preds, targets, ignore=255, **options)


def mixed(loss):
    return mix({"a": (loss, 0.25), "b": (loss, 0.75)})


WRAPPED = {
    "partial": ignoring,
    "partial, traced label": functools.partial(ignoring, ignore=jnp.array(255)),
    "partial of partial": functools.partial(ignoring, label_smoothing=0.0),
    "def": hides,
    "def that forwards": forwards,
    "functools.wraps": dressed,
    "partial of wraps": functools.partial(dressed, label_smoothing=0.0),
    "jit": jax.jit(ignoring),
    "jit of def": jax.jit(hides),
    "checkpoint": jax.checkpoint(hides),
    "vmap": lambda p, t: jax.vmap(lambda *x: hides(*(y[None] for y in x))[0])(p, t),
    "factor": lambda p, t: 2 * hides(p, t) / 2,
    "own mean": lambda p, t: jnp.mean(hides(p, t), 1),
    "mix": mixed(ignoring),
    "mix of def": mixed(hides),
    "mix in a def": lambda p, t: mixed(forwards)(p, t),
    "jit of mix": jax.jit(mixed(dressed)),
    "mix of mix": mixed(mixed(functools.partial(ignoring))),
    "a part of weight 0 counts for nothing": mix(
        {"a": (ignoring, 1.0), "b": (hw.losses.focal, 0.0)}
    ),
    "nor by a traced weight": mix(
        {"a": (ignoring, 1.0), "b": (hw.losses.focal, jnp.array(0.0))}
    ),
}


def value(loss, preds=LOGITS, targets=LABELS, **options):
    objective = hw.Objective({"y": loss})
    return objective.values({"y": preds}, {"y": targets}, **options)["y"]


def compiled(loss, *arrays, **options):
    """The same as one program, not one for each operation."""
    return jax.jit(functools.partial(value, loss))(*arrays, **options)


def cross_entropy(logits, labels):
    """Mean over all positions, float64."""
    z = np.asarray(logits, np.float64)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, np.asarray(labels)[..., None], -1).mean()


@pytest.mark.parametrize("name", WRAPPED)
def test_an_ignored_label_does_not_count(name):
    run = jax.jit(jax.value_and_grad(lambda z: value(WRAPPED[name], z)))
    got, slope = run(LOGITS)
    expected = cross_entropy(LOGITS[:1], LABELS[:1])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert not np.any(slope[1])


@pytest.mark.parametrize("name", WRAPPED)
def test_and_not_at_several_resolutions(name):
    got = compiled(deep(WRAPPED[name], [0.5, 0.5]), [LOGITS, LOGITS[:, ::2]])
    fine, coarse = LABELS[:1], LABELS[:1, 1::2]  # "nearest-exact"
    expected = cross_entropy(LOGITS[:1], fine) + cross_entropy(LOGITS[:1, ::2], coarse)
    np.testing.assert_allclose(got, expected / 2, rtol=1e-6)


def test_by_the_figures_of_the_field():
    zeros = jnp.zeros((2, 4, 3))
    for loss, preds in ((ignoring, zeros), (deep(ignoring, [1.0]), [zeros])):
        np.testing.assert_allclose(compiled(loss, preds), np.log(3), rtol=1e-6)
    crops = jnp.array(rng.normal(size=(4, 4, 4, 3)), jnp.float32)
    labels = jnp.array(rng.integers(0, 3, (4, 4, 4))).at[1:3].set(255)
    loss = deep(functools.partial(hw.losses.dice_ce, ignore=255))
    some = jnp.array([0, 3])
    got = compiled(loss, [crops, crops[:, ::2, ::2]], labels)
    expected = compiled(loss, [crops[some], crops[some, ::2, ::2]], labels[some])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    masked = deep(hw.losses.dice_ce)
    got = compiled(masked, [crops, crops[:, ::2, ::2]], labels, where=labels != 255)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["def that forwards", "functools.wraps", "mix"])
def test_together_with_a_mask(name):
    where = jnp.array([[True, True, False, False], [True] * 4])
    expected = cross_entropy(LOGITS[:1, :2], LABELS[:1, :2])
    got = compiled(WRAPPED[name], LOGITS, where=where)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    # A mask that is bound is one that is given.
    bound = functools.partial(WRAPPED[name], where=where)
    np.testing.assert_allclose(compiled(bound), expected, rtol=1e-6)


def test_keywords_that_are_handed_on_take_a_mask_to_dice():
    def dice(preds, targets, **options):
        return hw.losses.dice(preds, targets, activation=jax.nn.softmax, **options)

    where = LABELS != 255
    got = compiled(dice, LOGITS, where=where)
    expected = compiled(dice, LOGITS[:1], LABELS[:1])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_cannot_be_seen_is_an_error():
    def each(preds, targets):
        return jax.lax.map(lambda x: hides(x[0][None], x[1][None])[0], (preds, targets))

    with pytest.raises(ValueError, match=r"inside of 'scan'.*keyword-only `where`"):
        value(each)
    with pytest.raises(ValueError, match=r"mask of shape \(2, 4, 1\).*\(2, 3\)"):
        value(lambda p, t: jnp.ones((2, 3)) * jnp.sum(hides(p[0], t)), [LOGITS])


ONES, BAD = jnp.ones((1, 4, 1)), jnp.full((1, 2, 1), jnp.nan)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("kind", ["float", "array", "traced"])
def test_an_output_of_weight_0_is_not_there(kind, bad):
    def total(outputs, weight):
        return jnp.sum(deep(optax.losses.squared_error, [1.0, weight])(outputs, ONES))

    weight = {"float": 0.0, "array": jnp.zeros(())}.get(kind)
    run = jax.value_and_grad(
        total if kind == "traced" else lambda o, _: total(o, weight)
    )
    got, slopes = jax.jit(run)([0 * ONES, 0 * BAD + bad], 0.0)
    assert got == 1.0
    np.testing.assert_array_equal(slopes[0], -0.5)
    np.testing.assert_array_equal(slopes[1], 0.0)


SHARES = {
    # name: (loss of probabilities with the weight of the part that is spoilt, weight)
    "unified_focal": lambda p, t, w: hw.losses.unified_focal(
        p, t, weight=w, activation=jax.nn.softmax
    ),
    "dice_ce": lambda p, t, w: hw.losses.dice_ce(p, t, ce_weight=w),
    "dice_focal": lambda p, t, w: hw.losses.dice_focal(p, t, focal_weight=w, gamma=0.0),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_share_of_0_is_not_there(name):
    """The right class is impossible at one position: the cross entropy is infinite."""
    z = LOGITS[:1].at[0, 1, 1].set(-jnp.inf)
    y = LABELS[:1]
    soft = jax.nn.softmax(z)
    if name == "unified_focal":
        expected = _compiled.whole(hw.losses.unified_focal)(soft, y, weight=0.0)
    else:
        expected = np.mean(_compiled.whole(hw.losses.dice)(soft, y), -1)

    @jax.jit
    def all_of(z, nothing, half):
        """With a weight that is known to be 0, and with one that is traced."""
        zeros = [
            jax.value_and_grad(lambda z, w=w: SHARES[name](z, y, w)[0])(z)
            for w in (0.0, nothing)
        ]
        return zeros, SHARES[name](z, y, half)

    zeros, spoilt = all_of(z, 0.0, 0.5)
    for got, slope in zeros:
        np.testing.assert_allclose(got, expected[0], rtol=1e-5)
        assert np.all(np.isfinite(slope))
    assert not np.isfinite(spoilt)


CLASSES = {
    "dice": hw.losses.dice,
    "tversky": hw.losses.tversky,
    "generalized_dice": hw.losses.generalized_dice,
    "mcc": hw.losses.mcc,
    "lovasz_softmax": hw.losses.lovasz_softmax,
    "boundary": hw.losses.boundary,
    "sigmoid dice": functools.partial(hw.losses.dice, activation=jax.nn.sigmoid),
    "binary_cross_entropy": hw.losses.binary_cross_entropy,
    "binary_focal": hw.losses.binary_focal,
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_weight_0_is_not_there(name):
    p = jax.nn.softmax(LOGITS)
    t = jax.nn.one_hot(jnp.array([[0, 1, 2, 0], [1, 2, 2, 0]]), 3)
    weights = jnp.array([1.0, 0.0, 2.0])

    @jax.jit
    def run(p):
        return jax.value_and_grad(
            lambda p: jnp.sum(CLASSES[name](p, t, class_weights=weights))
        )(p)

    got, slope = run(p.at[..., 1].set(jnp.nan))
    expected, expected_slope = run(p)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)
    assert not np.any(slope[..., 1])


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "poly"])
@pytest.mark.parametrize("hot", [False, True])
def test_a_position_whose_class_has_weight_0_is_not_there(loss, hot):
    labels = jnp.array([[0, 1, 2, 0], [1, 2, 2, 0]])
    bad = jnp.where((labels == 1)[..., None], jnp.nan, LOGITS)
    targets = jax.nn.one_hot(labels, 3) if hot else labels
    weights = jnp.array([1.0, 0.0, 2.0])

    @jax.jit
    def run(z):
        loss_of = getattr(hw.losses, loss)
        return jax.value_and_grad(
            lambda z: jnp.sum(loss_of(z, targets, class_weights=weights))
        )(z)

    got, slope = run(bad)
    expected, expected_slope = run(LOGITS)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)
    assert not np.any(slope[labels == 1])


def test_an_example_of_weight_0_is_not_in_what_the_batch_shares():
    """berHu's c is a share of the largest error of the batch."""
    preds, targets = jnp.array([[1.0, 5.0], [0.0, 0.0]]), jnp.array([[0.0, 0], [90, 0]])
    loss = functools.partial(hw.losses.berhu, over_batch=True)
    got = compiled(loss, preds, targets, sample_weights=jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(got, (1 + (25 + 1) / 2) / 4, rtol=1e-6)  # c = 1
