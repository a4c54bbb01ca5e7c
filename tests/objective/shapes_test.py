"""Losses that are not ours: what they broadcast, couple and raise is told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.losses import _draws
from tests.losses._families import ENTRIES


@pytest.fixture(autouse=True)
def numpys_rule():
    """As in a user's program: the tests' own setting refuses every promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield


def square(p, t):
    return (p - t) ** 2


def value(loss, preds, targets, **options):
    """As one program, not one for each operation."""
    values = jax.jit(hw.Objective({"y": loss}).values)
    return values({"y": preds}, {"y": targets}, **options)["y"]


def shape(loss, preds, targets, **options):
    """That of the value: traced only."""
    return jax.eval_shape(functools.partial(value, loss, **options), preds, targets)


COLUMN, ROW, FLAT = jnp.zeros((8, 1)), jnp.zeros((1, 8)), jnp.zeros(8)


@pytest.mark.parametrize(
    ("loss", "preds", "targets", "text"),
    [
        (square, COLUMN, FLAT, r"\(8, 1\).*\(8,\) make pairs"),
        (square, FLAT, COLUMN, r"\(8,\).*\(8, 1\) make pairs"),
        (lambda p, t: square(p, t).mean(-1), COLUMN, FLAT, "make pairs"),
        (lambda p, t: square(p, t).mean(), COLUMN, FLAT, "make pairs"),
        (square, COLUMN, ROW, r"preds \(8, 1\) or targets \(1, 8\), got \(8, 8\)"),
        (lambda p, t: p[:, None] - t[None], FLAT, FLAT, r"got \(8, 8\)"),
        (square, COLUMN[..., None], COLUMN, r"\(8, 1, 1\).*\(8, 1\) make pairs"),
        (
            lambda p, t: jnp.ones(5) * p["a"][0, 0],
            {"a": COLUMN, "b": FLAT},
            FLAT,
            r"leading axis of \[8\], got \(5,\)",
        ),
        (optax.losses.squared_error, COLUMN, FLAT, "Shape mismatch"),
        (hw.losses.squared_error, COLUMN, FLAT, r"shape of preds \(8, 1\)"),
    ],
)
def test_pairs_are_an_error_that_names_head_and_shapes(loss, preds, targets, text):
    with pytest.raises(ValueError, match=rf"(?s){text}.*in the loss of 'y'") as caught:
        shape(loss, preds, targets)
    note = caught.value.__notes__[0]
    assert getattr(loss, "__name__", "") in note
    assert "targets float32" in note


def test_errors_from_inside_keep_their_type_and_say_where():
    def broken(p, t):
        raise KeyError("mine")

    with pytest.raises(KeyError, match=r"(?s)mine.*in the loss of 'y', broken"):
        shape(broken, COLUMN, COLUMN)
    inside = hw.losses.mix({"l2": (optax.losses.squared_error, 1.0)})
    with pytest.raises(ValueError, match=r"(?s)'l2', squared_error.*of 'y', mix"):
        shape(inside, COLUMN, FLAT)


@pytest.mark.parametrize(
    ("loss", "preds", "targets"),
    [
        (square, COLUMN, COLUMN),
        (square, FLAT, jnp.zeros(())),
        (lambda p, t: (p[:, 0] - t) ** 2, COLUMN, FLAT),
        (lambda p, t: (p - t[:, None]) ** 2, jnp.zeros((8, 5)), FLAT),
        (lambda p, t: jnp.sum(p * t, 1), jnp.zeros((8, 5, 3)), jnp.zeros((8, 5, 3))),
        (lambda p, t: jnp.sum(p, 2) * 2.0, jnp.zeros((8, 5, 3)), FLAT),
        (lambda p, t: jnp.sum(p, 0), jnp.zeros((8, 3)), FLAT),
        (lambda p, t: jnp.mean(p - t), FLAT, FLAT),
        (lambda p, t: p["a"] * p["b"] - t, {"a": COLUMN, "b": COLUMN}, COLUMN),
        (lambda p, t: jnp.zeros((8, 4, 6)), {"a": jnp.zeros((8, 4))}, None),
        (hw.losses.absolute_error, FLAT, FLAT),
    ],
)
def test_what_is_no_larger_passes(loss, preds, targets):
    assert shape(loss, preds, targets).shape == ()


def cox(risk, seen, *, where=None):
    """Partial likelihood, one value a patient."""
    at_risk = seen["time"][None] >= seen["time"][:, None]
    if where is not None:
        at_risk &= where[None]
    log_sum = jax.nn.logsumexp(jnp.where(at_risk, risk[None], -jnp.inf), 1)
    return jnp.where(seen["event"], log_sum - risk, 0.0)


RISK = jnp.array([0.3, -0.2, 0.5, 1.0, 0.1])
SEEN = {
    "time": jnp.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    "event": jnp.array([True, False, True, True, True]),
}
SOME = jnp.array([True, True, True, False, True])


def test_what_couples_examples_takes_a_mask_or_is_an_error():
    def hides(risk, seen):
        return cox(risk, seen)

    kept = np.flatnonzero(SOME)
    few = jax.tree.map(lambda x: np.asarray(x)[kept], (RISK, SEEN))
    risk, (event, time) = np.float64(few[0]), few[1].values()
    terms = [
        np.log(sum(np.exp(risk[time >= time[i]]))) - risk[i] if event[i] else 0.0
        for i in range(len(kept))
    ]
    got = value(cox, RISK, SEEN, where=SOME)
    np.testing.assert_allclose(got, np.mean(terms), rtol=1e-6)
    weighed = value(cox, RISK, SEEN, sample_weights=SOME.astype(jnp.float32))
    np.testing.assert_allclose(weighed, np.sum(terms) / 5, rtol=1e-6)
    for options in (dict(where=SOME), dict(sample_weights=1.0 * SOME)):
        with pytest.raises(ValueError, match=r"'y'.*other entries.*argument `where`"):
            value(hides, RISK, SEEN, **options)
    assert np.isfinite(value(hides, RISK, SEEN))


COUPLED = {
    "contrast": lambda p, t: jax.nn.logsumexp(p @ p.T, 1) - jnp.sum(p * t, 1),
    "share of the batch": lambda p, t: jnp.sum(p, 1) / jnp.sum(p),
    "rank": lambda p, t: jnp.argsort(jnp.argsort(jnp.sum(p * t, 1))) * p[:, 0],
    "over positives": lambda p, t: jnp.sum((p - t) ** 2, 1) / jnp.sum(t),
    "running": lambda p, t: jnp.cumsum(jnp.sum(p * t, 1)),
}


@pytest.mark.parametrize("name", COUPLED)
def test_all_ways_to_couple_are_found(name):
    p = jnp.zeros((6, 3))
    with pytest.raises(ValueError, match=r"depends on other entries"):
        shape(COUPLED[name], p, p, where=jnp.ones(6, bool))


def test_neighbours_too_if_positions_are_masked():
    def steps(p, t):
        return jnp.abs(p - jnp.roll(p, 1, axis=1)) + 0 * t

    p = jnp.zeros((4, 5))
    assert shape(steps, p, p, where=jnp.ones(4, bool)).shape == ()
    with pytest.raises(ValueError, match=r"depends on other entries"):
        shape(steps, p, p, where=jnp.ones((4, 5), bool))


def each(p, t):
    """Python that goes by shapes, a loop, and a stabilised softmax over the batch."""
    z = p - jax.lax.stop_gradient(jnp.max(p))
    if p.ndim > 1:
        z = z - jnp.log(jnp.sum(jnp.exp(z), -1, keepdims=True))
    total = jnp.zeros(len(p))
    for c in range(p.shape[-1]):
        total -= t[:, c] * z[:, c]
    return total


LABELS = jnp.zeros(6, int)
LOGITS = jnp.zeros((6, 3))
EACH = {
    name: (getattr(optax.losses, name), targets)
    for targets, names in (
        (
            LOGITS,
            "squared_error l2_loss huber_loss log_cosh cosine_distance hinge_loss",
        ),
        (LOGITS, "softmax_cross_entropy safe_softmax_cross_entropy kl_divergence"),
        (
            LOGITS,
            "sigmoid_binary_cross_entropy sigmoid_focal_loss generalized_kl_divergence",
        ),
        (LOGITS, "perceptron_loss poly_loss_cross_entropy cosine_similarity"),
        (LABELS, "softmax_cross_entropy_with_integer_labels"),
        (LABELS, "multiclass_hinge_loss multiclass_perceptron_loss"),
    )
    for name in names.split()
} | {
    "own": (each, LOGITS),
    "vmap": (jax.vmap(lambda p, t: jnp.sum(p * t) / jnp.sum(p)), LOGITS),
    "lax.map": (lambda p, t: jax.lax.map(jnp.sum, p) - t[:, 0], LOGITS),
    "with constants": (lambda p, t: (p - t) @ jnp.arange(3.0), LOGITS),
    "normalised": (lambda p, t: p / jnp.linalg.norm(p, axis=-1, keepdims=True), LOGITS),
}


@pytest.mark.parametrize("name", EACH)
def test_losses_of_single_examples_are_never_taken_for_coupled(name):
    loss, targets = EACH[name]
    where = jnp.ones(6, bool)
    assert shape(loss, LOGITS, targets, where=where).shape == ()
    assert shape(loss, LOGITS, targets, sample_weights=jnp.ones(6)).shape == ()


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_nor_are_ours_in_a_function_that_hides_them(name):
    entry = ENTRIES[name]
    preds, targets = _draws.example(entry)
    where = jnp.ones(preds.shape[:1], bool)
    got = shape(lambda p, t: entry.loss(p, t), preds, targets, where=where)
    assert got.shape == ()


def test_what_closes_over_traced_arrays_is_left_alone():
    """Its coupling cannot be tried out."""

    @jax.jit
    def run(scale):
        return value(lambda p, t: scale * p / jnp.sum(p), RISK, RISK, where=SOME)

    assert np.isfinite(run(2.0))


@pytest.mark.parametrize("loss", [optax.losses.squared_error, hw.losses.squared_error])
def test_a_batch_without_examples_is_0(loss):
    got, slope = jax.value_and_grad(lambda p: value(loss, p, p))(jnp.zeros((0, 3)))
    assert got == 0.0
    assert slope.shape == (0, 3)
    assert value(loss, slope, slope, where=jnp.ones(0, bool)) == 0.0
