"""What is special to the dense regression losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from headwise.losses import _depth
from headwise.losses import _normals
from headwise.losses import _regression
from tests.losses import _compiled
from tests.losses import _dense_reference as reference
from tests.losses import _draws
from tests.losses._dense_entries import depths
from tests.losses._dense_entries import ENTRIES

NAMES = sorted(set(ENTRIES) - {"ssim"})
ELEMENTWISE = ["absolute_error", "berhu", "huber", "squared_error"]
every_loss = pytest.mark.parametrize("name", NAMES)
LOSSES = {name: _compiled.whole(ENTRIES[name].loss) for name in NAMES}
absolute_error = _compiled.whole(_regression.absolute_error)
huber = _compiled.whole(_regression.huber)
berhu = _compiled.whole(_depth.berhu)
scale_invariant_log = _compiled.whole(_depth.scale_invariant_log)
gradient_matching = _compiled.whole(_depth.gradient_matching)
normal_cosine = _compiled.whole(_normals.normal_cosine)

# float32 against float64: sums of at most 60 terms of size 1 keep 5 digits.
CLOSE = dict(rtol=2e-5, atol=2e-6)


def rng(seed=0):
    return np.random.default_rng(seed)


def pair(name, shape, seed=0):
    entry = ENTRIES[name]
    return entry.preds(rng(seed), shape), entry.make_targets(rng(seed + 1), shape, "")


@every_loss
@pytest.mark.parametrize("shape", [(3, 7), (2, 4, 5), (2, 3, 4, 5)])
def test_equals_the_reference_without_channel_axis(name, shape):
    preds, targets = pair(name, shape)
    masks = [None, rng(5).random(shape) < 0.7, np.arange(len(preds)) > 0]
    drawn = [(preds, targets, {"where": where}) for where in masks]
    for where, got in zip(masks, _draws.values(ENTRIES[name], drawn), strict=True):
        expected = ENTRIES[name].reference(preds, targets, where=where)
        np.testing.assert_allclose(got, expected, **CLOSE)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_scalar_targets_of_a_batch(name):
    preds, targets = jnp.array([1.0, 2.0, -1.0]), jnp.array([1.0, 0.5, 3.0])
    got = LOSSES[name](preds, targets, where=jnp.array([True, True, False]))
    assert got.shape == (3,)
    np.testing.assert_array_equal(got[jnp.array([0, 2])], 0.0)
    assert got[1] > 0


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("squared_error", optax.losses.squared_error),
        ("huber", optax.losses.huber_loss),
    ],
)
def test_is_optax_but_for_half_precision(name, theirs):
    preds, targets = pair(name, (4, 9))
    loss = ENTRIES[name].loss
    np.testing.assert_array_equal(loss(preds, targets), theirs(preds, targets))
    half = [jnp.asarray(x, jnp.bfloat16) for x in (preds, targets)]
    whole = [x.astype(jnp.float32) for x in half]
    np.testing.assert_array_equal(loss(*half), theirs(*whole))
    assert jnp.any(theirs(*half) != theirs(*whole))


def test_huber_is_clipped_in_the_gradient():
    x = jnp.array([[-3.0, -0.5, 0.0, 0.5, 3.0]])
    grads = jax.grad(lambda p: jnp.sum(huber(p, 0 * p, delta=0.75)))(x)
    np.testing.assert_allclose(grads, [[-0.75, -0.5, 0.0, 0.5, 0.75]])


def test_absolute_error_has_slope_0_at_equality():
    grads = jax.grad(lambda p: jnp.sum(absolute_error(p, jnp.ones(3))))
    np.testing.assert_array_equal(grads(jnp.array([0.0, 1.0, 2.0])), [-1.0, 0.0, 1.0])


@pytest.mark.parametrize("over_batch", [False, True])
@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_berhu_rule_equals_the_reference(over_batch, fraction):
    preds, targets = pair("berhu", (3, 4, 5))
    preds[1] *= 10
    where = rng(3).random(preds.shape) < 0.7
    options = dict(where=where, fraction=fraction, over_batch=over_batch)
    np.testing.assert_allclose(
        berhu(preds, targets, **options),
        reference.berhu(preds, targets, **options),
        **CLOSE,
    )


def test_berhu_takes_c_for_a_constant():
    x = jnp.array([[0.5, -4.0, 10.0]])  # c = 2
    grads = jax.grad(lambda p: jnp.sum(berhu(p, jnp.zeros((1, 3)))))(x)
    np.testing.assert_allclose(grads, [[1.0, -2.0, 5.0]], rtol=1e-6)


def test_berhu_ignores_masked_outliers_in_the_rule():
    preds, targets = jnp.array([[1.0, 5.0, 10.0, 1e6]]), jnp.zeros((1, 4))
    where = jnp.array([[True, True, True, False]])
    got = berhu(preds, targets, where=where)
    np.testing.assert_allclose(got, [[1.0, 7.25, 26.0, 0.0]], rtol=1e-6)


def test_berhu_meets_in_value_and_slope():
    slopes = jax.grad(lambda p: jnp.sum(berhu(p, jnp.zeros(2), threshold=1.5)))
    around = jnp.array([1.4999, 1.5001])
    values = berhu(around, jnp.zeros(2), threshold=1.5)
    # A step of 2e-4 with slope 1 at both ends, in float32 near 1.5.
    np.testing.assert_allclose(values[1] - values[0], 2e-4, atol=1e-6)
    np.testing.assert_allclose(slopes(around), 1.0, rtol=1e-4)


@pytest.mark.parametrize("over_batch", [False, True])
def test_berhu_of_a_perfect_example_is_0_with_zero_gradient(over_batch):
    def total(p):
        return jnp.sum(berhu(p, jnp.ones((2, 3)), over_batch=over_batch))

    value, grads = jax.value_and_grad(total)(jnp.ones((2, 3)))
    assert value == 0
    np.testing.assert_array_equal(grads, 0.0)


def test_silog_of_a_factor():
    targets = jnp.array([[1.0, 2.0, 5.0], [3.0, 0.0, 1.0]])
    for focus in [0.0, 0.5, 0.85, 1.0]:
        got = scale_invariant_log(3 * targets, targets, variance_focus=focus)
        # log 3 at every position: (1 - lambda) log² 3; float32.
        expected = (1 - focus) * np.log(3) ** 2
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-12)


def test_silog_is_the_variance_of_the_log_ratio():
    preds, targets = pair("scale_invariant_log", (2, 50))
    targets = np.abs(targets) + 0.1
    got = scale_invariant_log(preds, targets, variance_focus=1.0)
    expected = np.var(np.log(preds.astype(float) / targets), 1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32


def test_silog_never_is_negative():
    targets = jnp.array([[1.0, 2.0, 5.0, 7.0, 11.0, 13.0]])
    factors = jnp.linspace(0.1, 9.0, 50)
    value = jax.vmap(
        lambda f: scale_invariant_log(
            f * targets, targets, variance_focus=1.0, root=True
        )
    )
    assert jnp.all(value(factors) >= 0)  # NaN is not
    assert jnp.all(value(factors) < 1e-6)  # rounding of log in float32


def test_silog_root_squares_back():
    preds, targets = pair("scale_invariant_log", (2, 9))
    root = scale_invariant_log(preds, targets, root=True)
    plain = scale_invariant_log(preds, targets)
    np.testing.assert_allclose(root**2, plain, rtol=1e-6)


@pytest.mark.parametrize("root", [False, True])
def test_silog_gradient_is_finite_where_the_loss_is_0(root):
    targets = jnp.array([[1.0, 2.0, 5.0]])

    def total(p):
        return jnp.sum(scale_invariant_log(p, targets, root=root))

    np.testing.assert_array_equal(jax.grad(total)(targets), 0.0)


def test_silog_missing_depth_equals_mask():
    preds, targets = pair("scale_invariant_log", (3, 20))
    assert np.any(targets == 0)
    bad = np.where(targets > 0, preds, np.nan)
    for missing in [0.0, -1.0, np.nan]:
        holes = np.where(targets > 0, targets, missing).astype(np.float32)
        value, grads = jax.value_and_grad(
            lambda p, t=holes: jnp.sum(scale_invariant_log(p, t))
        )(bad)
        expected = jnp.sum(scale_invariant_log(preds, targets, where=targets > 0))
        np.testing.assert_array_equal(value, expected)
        assert np.all(np.isfinite(grads))
        assert not np.any(grads[targets == 0])


def test_silog_of_log_depth():
    preds, targets = pair("scale_invariant_log", (2, 9))
    np.testing.assert_allclose(
        scale_invariant_log(np.log(preds), targets, log_space=True),
        scale_invariant_log(preds, targets),
        rtol=1e-5,  # log of NumPy and of XLA
    )


def test_silog_of_depth_0_is_finite():
    value, grads = jax.value_and_grad(
        lambda p: jnp.sum(scale_invariant_log(p, jnp.ones((1, 3))))
    )(jnp.array([[0.0, -1.0, 1.0]]))
    assert np.isfinite(value)
    np.testing.assert_array_equal(grads[0, :2], 0.0)
    assert np.isfinite(grads[0, 2])


def test_matching_by_hand_with_a_hole():
    preds = jnp.array([[[0.0, 1.0, 3.0], [10.0, 20.0, 40.0]]])
    where = jnp.array([[[True, True, True], [True, False, True]]])
    got = gradient_matching(preds, 0 * preds, where=where, scales=1)
    # Rows: 10 and 37 (20 is masked). Columns: 1 and 2.
    np.testing.assert_allclose(got, [(10 + 37) / 2 + (1 + 2) / 2])


def test_matching_does_not_see_a_constant():
    preds, targets = pair("gradient_matching", (2, 6, 7))
    np.testing.assert_allclose(
        gradient_matching(preds + 3, targets),
        gradient_matching(preds, targets),
        rtol=1e-5,  # 3 takes two bits
    )


def test_matching_of_a_ramp_grows_with_the_scales():
    ramp = jnp.arange(17.0)[None]
    for scales in range(1, 6):
        got = gradient_matching(ramp, 0 * ramp, scales=scales)
        np.testing.assert_allclose(got, 2.0**scales - 1)


def test_matching_with_a_channel_axis_of_1():
    preds, targets = pair("gradient_matching", (2, 6, 7))
    np.testing.assert_array_equal(
        gradient_matching(preds[..., None], targets[..., None]),
        gradient_matching(preds, targets),
    )


def test_matching_without_pairs_is_0():
    checkers = np.indices((4, 4)).sum(0) % 2 == 0
    preds = rng().normal(size=(1, 4, 4)).astype(np.float32)
    got = gradient_matching(preds, 0 * preds, where=checkers[None], scales=1)
    np.testing.assert_array_equal(got, 0.0)
    np.testing.assert_array_equal(
        gradient_matching(preds[:, :1, :1], preds[:, 1:2, :1]), 0.0
    )


def test_matching_with_no_scale():
    with pytest.raises(ValueError, match=r"scales: expected a positive int, got 0"):
        gradient_matching(jnp.ones((1, 4)), jnp.ones((1, 4)), scales=0)


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.1, 45.0, 90.0, 135.0, 180.0])
def test_normals_at_an_angle(degrees):
    angle = np.deg2rad(degrees)
    preds = jnp.array([[[7.0 * np.cos(angle), 7.0 * np.sin(angle), 0.0]]])
    targets = jnp.array([[[0.2, 0.0, 0.0]]])
    # 1 - cos in float32 would be 0 up to 0.02 degrees; this form keeps its digits.
    expected = 2 * np.sin(angle / 2) ** 2
    got = _normals.normal_cosine(preds, targets)  # at 0 one rounding more is not 0
    np.testing.assert_allclose(got[0, 0], expected, rtol=1e-5)


def test_normals_do_not_see_the_length_of_predictions():
    preds, targets = pair("normal_cosine", (2, 5, 3))
    factors = np.array([1e-6, 0.1, 1, 10, 1e6], np.float32)[None, :, None]
    np.testing.assert_allclose(
        normal_cosine(preds * np.broadcast_to(factors, preds.shape), targets),
        normal_cosine(preds, targets),
        rtol=1e-5,
        atol=1e-6,
    )
    grads = jax.grad(lambda p: jnp.sum(normal_cosine(p, targets)))(preds)
    # No part of the gradient along the prediction.
    np.testing.assert_allclose(np.sum(grads * preds, -1), 0.0, atol=1e-6)


def test_normals_of_zero_vectors():
    one, none = [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]
    preds, targets = jnp.array([[none, one, none]]), jnp.array([[one, none, none]])
    value = normal_cosine(preds, targets)
    np.testing.assert_array_equal(value, [[1.0, 0.0, 0.0]])
    grads = jax.grad(lambda p: jnp.sum(normal_cosine(p, targets)))(preds)
    np.testing.assert_array_equal(grads, 0.0)


@every_loss
def test_misuse_is_a_clear_error(name):
    loss = ENTRIES[name].loss
    ones = jnp.ones((2, 5, 3))
    with pytest.raises(ValueError, match=r"targets.*\(2, 5, 3\).*\(2, 5\)"):
        loss(ones, jnp.ones((2, 5)))
    with pytest.raises(TypeError, match=r"preds.*floating.*int32"):
        loss(ones.astype(int), ones)
    with pytest.raises(ValueError, match=r"where.*\(2, 5, 3\).*\(2, 4\)"):
        loss(ones, ones, where=jnp.ones((2, 4), bool))
    with pytest.raises(TypeError, match=r"where.*bool.*float"):
        loss(ones, ones, where=jnp.ones((2, 5)))


def test_depths_of_the_tests_have_holes():
    assert 0 < np.mean(depths(rng(), (100,), "") == 0) < 0.5


@pytest.mark.parametrize("bad", ["preds", "targets"])
def test_normals_of_nan_are_nan_in_value_and_gradient(bad):
    p = {"preds": jnp.array([[[1.0, 0, 0]]]), "targets": jnp.array([[[0.0, 1, 0]]])}
    p[bad] = p[bad].at[0, 0, 2].set(jnp.nan)

    def loss(preds):
        return normal_cosine(preds, p["targets"])[0, 0]

    value, slope = jax.value_and_grad(loss)(p["preds"])
    assert np.isnan(value)
    assert np.all(np.isnan(slope))
