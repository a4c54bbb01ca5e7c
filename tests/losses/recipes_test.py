"""What the docs say of other libraries' numbers, against their formulas in float64.

Each formula is written as that library has it, from its source or its documentation;
values that a library gave are in the golden tests.
"""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.losses import _compiled

losses = _compiled.losses
DOCS = pathlib.Path(__file__).parents[2] / "docs"
CLOSE = dict(rtol=2e-6)  # float32 against float64
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(3, 5, 4)).astype(np.float32)
LABELS = rng.integers(0, 4, (3, 5))
WEIGHTS = np.array([0.5, 3.0, 1.0, 0.25], np.float32)
P, T = (
    rng.dirichlet(np.ones(3), (2, 6)).astype(np.float32),
    np.eye(3)[rng.integers(0, 3, (2, 6))].astype(np.float32),
)
X, Y = rng.uniform(0.5, 2.0, (2, 2, 9)).astype(np.float32)


def log_softmax(z):
    z = np.float64(z)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def pytorch_cross_entropy(z, y, w, ignore_index, label_smoothing):
    """`torch.nn.CrossEntropyLoss` of its documentation, reduction "mean"."""
    log_p, w, total, weight = log_softmax(z), np.float64(w), 0.0, 0.0
    for row, label in zip(log_p.reshape(-1, z.shape[-1]), y.ravel(), strict=True):
        if label == ignore_index:
            continue
        total -= (1 - label_smoothing) * w[label] * row[label]
        total -= label_smoothing / len(row) * np.sum(w * row)
        weight += w[label]
    return total / weight


def recipe_of_the_page(name):
    """The block of docs/guides/losses.md that defines a function of this name."""
    text = (DOCS / "guides" / "losses.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (block,) = [b for b in blocks if f"def {name}(" in b]
    names = dict(hw=hw, jnp=jnp, jax=jax, functools=functools)
    exec(block.split("\n\n\n")[0], names)
    return names[name]


@pytest.mark.parametrize("ignore", [-100, -1, 255, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_mean_of_pytorch(ignore, smoothing):
    labels = LABELS.copy()
    labels[0, 1:4] = labels[2, 0] = ignore
    expected = pytorch_cross_entropy(LOGITS, labels, WEIGHTS, ignore, smoothing)
    recipe = recipe_of_the_page("pytorch_mean")
    recipe = functools.partial(recipe, ignore=ignore, label_smoothing=smoothing)
    got = jax.jit(recipe)(LOGITS, labels, WEIGHTS)
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_the_recipe_that_forgets_what_is_ignored_is_another_number():
    labels = LABELS.copy()
    labels[0, 1:4] = -1
    v = WEIGHTS / WEIGHTS.mean()
    values = losses.cross_entropy(
        LOGITS, jnp.array(labels), class_weights=WEIGHTS, ignore=-1
    )
    expected = pytorch_cross_entropy(LOGITS, labels, WEIGHTS, -1, 0.0)
    assert abs(jnp.sum(values) / jnp.sum(v[labels]) - expected) > 0.01


def test_pos_weight_of_pytorch():
    z, t, q = np.float64(LOGITS[0]), T[0, :5].repeat(2, -1)[:, :4], 2.5
    p = 1 / (1 + np.exp(-z))
    expected = -(q * t * np.log(p) + (1 - t) * np.log(1 - p))
    got = losses.binary_cross_entropy(
        LOGITS[:1], t[None].astype(np.float32), positive_weight=q
    )
    np.testing.assert_allclose(got[0], expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_smooth_l1_of_pytorch_is_huber_over_delta(beta):
    x = np.abs(np.float64(3 * (X - Y)))
    expected = np.where(x < beta, x**2 / (2 * beta), x - beta / 2)
    got = losses.huber(3 * X, 3 * Y, delta=beta) / beta
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_smooth_of_optax_counts_half():
    w = np.array([1.0, 2.0, 0.5])
    with jax.numpy_rank_promotion("allow"):
        theirs = optax.losses.dice_loss(np.log(P), T, smooth=0.3, class_weights=w)
    got = losses.dice(P, T, smooth=0.6, class_weights=w)
    np.testing.assert_allclose(jnp.mean(got, -1), theirs, rtol=1e-5)
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(lambda p: optax.losses.dice_loss(p, T, apply_softmax=False))(P)


def test_dice_of_keras_is_one_ratio():
    """`keras.losses.Dice`: 1 - 2 Σ t p / (Σ t + Σ p + 1e-7), over batch and classes."""
    p, t = np.float64(P), np.float64(T)
    expected = 1 - 2 * (t * p).sum() / (t.sum() + p.sum() + 1e-7)
    got = losses.generalized_dice(
        P, T, weighting="uniform", smooth=(0.0, 1e-7), over_batch=True
    )
    np.testing.assert_allclose(got, expected, **CLOSE)
    absent = losses.dice(np.zeros_like(P), np.zeros_like(T), smooth=(0.0, 1e-7))
    np.testing.assert_array_equal(absent, 1.0)


def test_smooth_of_iou_of_monai():
    """`DiceLoss(jaccard=True)`: 1 - (2 tp + s) / (2 (Σ p + Σ t - tp) + s)."""
    p, t, s = np.float64(P), np.float64(T), 0.4
    tp, total = (p * t).sum(1), (p + t).sum(1)
    expected = 1 - (2 * tp + s) / (2 * (total - tp) + s)
    got = losses.iou(P, T, smooth=s / 2)
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_generalized_dice_of_monai_in_a_large_volume():
    """A million positions a class, all wrong: its smooth outweighs 1 / V²."""
    v, s = 1e6, 1e-5
    theirs = 1 - (0 + s) / (2 * (1 / v**2) * (v + v) + s)
    np.testing.assert_allclose(theirs, 0.286, atol=5e-4)
    wrong, right = np.eye(2)[[[0, 0, 1, 1]]], np.eye(2)[[[1, 1, 0, 0]]]
    loss = hw.losses.generalized_dice
    np.testing.assert_allclose(loss(wrong * 1.0, right), 1.0, atol=3e-6)
    np.testing.assert_allclose(
        loss(wrong * 1.0, right, smooth=s * v**2 * 2 / v), theirs, rtol=1e-4
    )  # V = 2 here: s V² / (V / 2) positions


def test_deep_supervision_of_nnunet_divides_by_the_sum_of_its_weights():
    """`1 / 2**i`, the coarsest 0, over their sum."""
    outputs = [X[:, ::k, None] for k in (1, 3, 9)]
    targets = Y[..., None]
    w = np.array([1 / 2**i for i in range(3)])
    w[-1] = 0
    w /= w.sum()
    at = [targets, targets[:, 1::3], targets[:, 4::9]]  # the centres
    parts = [np.mean((o - t) ** 2) for o, t in zip(outputs, at, strict=True)]
    loss = hw.losses.deep_supervision(hw.losses.squared_error, list(w))
    got = jnp.mean(loss([jnp.array(o) for o in outputs], jnp.array(targets)))
    np.testing.assert_allclose(got, w @ parts, rtol=1e-5)


def test_lovasz_of_the_authors_leaves_absent_classes_out():
    """`lovasz_softmax_flat(classes="present")` of their code, image by image."""
    labels = np.array([[0, 1, 1, 0, 0, 1], [2, 2, 0, 1, 0, 0]])
    expected = []
    for p, y in zip(np.float64(P), labels, strict=True):
        of_image = []
        for c in np.unique(y):
            fg = (y == c).astype(float)
            errors = np.abs(fg - p[:, c])
            order = np.argsort(-errors)
            sums = fg[order].sum()
            jaccard = 1 - (sums - fg[order].cumsum()) / (
                sums + (1 - fg[order]).cumsum()
            )
            jaccard[1:] -= jaccard[:-1].copy()
            of_image.append(errors[order] @ jaccard)
        expected.append(np.mean(of_image))
    values = losses.lovasz_softmax(P, labels, absent="zero")
    present = np.array([len(np.unique(y)) for y in labels])
    np.testing.assert_allclose(values.sum(-1) / present, expected, **CLOSE)


def test_silog_of_bts_and_adabins():
    """`10 * sqrt(mean(d²) - 0.85 mean(d)²)`."""
    d = np.log(np.float64(X)) - np.log(np.float64(Y))
    d = d.reshape(2, -1)
    expected = 10 * np.sqrt((d**2).mean(1) - 0.85 * d.mean(1) ** 2)
    got = 10 * losses.scale_invariant_log(X, Y, variance_focus=0.85, root=True)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_focal_tversky_of_the_paper():
    """(1 - TI)^(1 / γ), TI = tp / (tp + α fn + β fp), γ = 4/3, α = 0.7, β = 0.3."""
    p, t = np.float64(P), np.float64(T)
    tp, fn, fp = (p * t).sum(1), ((1 - p) * t).sum(1), (p * (1 - t)).sum(1)
    expected = (1 - tp / (tp + 0.7 * fn + 0.3 * fp)) ** (3 / 4)
    got = losses.focal_tversky(P, T, alpha=0.3, beta=0.7, gamma=0.75, smooth=0.0)
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_gradient_matching_of_megadepth_divides_by_positions():
    r = np.float64(X - Y)
    theirs = np.abs(np.diff(r, axis=1)).sum(1) / r.shape[1]
    got = losses.gradient_matching(X, Y, scales=1)
    np.testing.assert_allclose(got * 8 / 9, theirs, rtol=1e-5)


@pytest.mark.parametrize("s", [0.1, 0.5])
def test_label_smoothing_of_pytorch_and_keras(s):
    log_p, hot = log_softmax(LOGITS), np.eye(4)[LABELS]
    expected = -(((1 - s) * hot + s / 4) * log_p).sum(-1)
    got = losses.cross_entropy(LOGITS, LABELS, label_smoothing=s)
    np.testing.assert_allclose(got, expected, **CLOSE)
    p = 1 / (1 + np.exp(-np.float64(LOGITS)))
    t = (1 - s) * hot + s / 2  # `keras.losses.BinaryCrossentropy`
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    got = losses.binary_cross_entropy(LOGITS, hot, label_smoothing=s)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


def test_focal_loss_of_monai_means_over_classes_too():
    """`FocalLoss(use_softmax=True)`: mean over B, C and positions of the same sum."""
    log_p, hot = log_softmax(LOGITS), np.eye(4)[LABELS]
    theirs = np.mean(-((1 - np.exp(log_p)) ** 2) * hot * log_p)
    got = jnp.mean(losses.focal(LOGITS, LABELS)) / 4
    np.testing.assert_allclose(got, theirs, **CLOSE)


def test_dice_focal_of_monai_with_softmax_is_a_mixture():
    """Dice of the softmax, and the focal loss of sigmoids."""
    z, hot = np.float64(LOGITS), np.eye(4)[LABELS]
    soft, q = np.exp(log_softmax(z)), 1 / (1 + np.exp(-z))
    dice = 1 - (2 * (soft * hot).sum(1) + 1e-5) / ((soft + hot).sum(1) + 1e-5)
    at = np.where(hot == 1, q, 1 - q)
    theirs = dice.mean() + np.mean(-((1 - at) ** 2) * np.log(at))
    dice = functools.partial(hw.losses.dice, activation=jax.nn.softmax)
    both = hw.losses.mix({"d": (dice, 1.0), "f": (hw.losses.binary_focal, 1.0)})
    got = jnp.mean(both(jnp.array(LOGITS), jnp.array(hot, jnp.float32)))
    np.testing.assert_allclose(got, theirs, **CLOSE)


def test_mcc_of_monai_adds_to_the_product():
    p, t = np.float64(P), np.float64(T)
    tp, fp = (p * t).sum(1), (p * (1 - t)).sum(1)
    fn, tn = ((1 - p) * t).sum(1), ((1 - p) * (1 - t)).sum(1)
    root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) + 1e-5)
    expected = 1 - (tp * tn - fp * fn) / root
    got = losses.mcc(P, T, smooth=0.0)
    np.testing.assert_allclose(got, expected, rtol=2e-5)
