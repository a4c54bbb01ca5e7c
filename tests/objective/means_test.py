"""Values that say of how much they are means: what is told, and what keeps it."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

l2 = optax.losses.squared_error
PREDS = jnp.array([[1.0, 2.0], [4.0, 5.0]])
WHERE = jnp.array([[True, True], [True, False]])
SEGMENTS = jnp.array([[[0.9, 0.1], [0.2, 0.8]]] * 2)
LABELS = jnp.array([[0, 1], [255, 255]])


def values(loss, preds=PREDS, targets=None, **options):
    targets = jnp.zeros_like(preds) if targets is None else targets
    objective = hw.Objective({"y": loss, "plain": l2})
    return jax.jit(objective.values)(
        {"y": preds, "plain": PREDS}, {"y": targets, "plain": PREDS}, **options
    )


def of_y(given):
    return {"y": given}


IGNORING = functools.partial(hw.losses.cross_entropy, ignore=255)


@pytest.mark.parametrize(
    ("loss", "options", "count", "present"),
    [
        (l2, {"where": of_y(WHERE)}, 3, 1),
        (l2, {"where": of_y(jnp.array([True, False]))}, 2, 1),
        (l2, {"where": of_y(jnp.zeros((2, 2), bool))}, 0, 0),
        # Keras' rule: the denominator is the number of entries, whatever they weigh.
        (l2, {"sample_weights": of_y(jnp.array([3.0, 0.0]))}, 4, 1),
        (l2, {"sample_weights": of_y(jnp.zeros(2))}, 4, 0),
        (
            l2,
            {
                "where": of_y(WHERE),
                "sample_weights": of_y(jnp.array([[0.0, 0.0], [0.0, 1.0]])),
            },
            3,
            0,
        ),
        (l2, {"preds": jnp.ones((0, 2))}, 0, 0),
        (IGNORING, {"preds": SEGMENTS, "targets": LABELS}, 2, 1),
        (IGNORING, {"preds": SEGMENTS, "targets": jnp.full((2, 2), 255)}, 0, 0),
        (
            hw.losses.dice,  # one value an example and class
            {"preds": SEGMENTS, "targets": SEGMENTS, "where": of_y(WHERE[:, 1])},
            2,
            1,
        ),
    ],
)
def test_counts_and_presence(loss, options, count, present):
    told = values(loss, **options)
    assert isinstance(told, hw.Means)
    assert set(told.counts) == set(told.present) == {"y"}
    assert (float(told.counts["y"]), float(told.present["y"])) == (count, present)
    assert told.coupled == {}
    jitted = jax.jit(lambda: values(loss, **options))()
    np.testing.assert_array_equal(jitted.counts["y"], told.counts["y"])


def test_nothing_to_tell_is_a_plain_dict():
    assert type(values(l2)) is dict
    assert type(values(lambda p, t: (p - t) ** 2)) is dict


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (functools.partial(hw.losses.dice, over_batch=True), "'dice' has over_batch"),
        (lambda p, t: jnp.mean((p - t) ** 2), r"'<lambda>' returns shape \(\)"),
    ],
)
def test_a_loss_that_couples_examples_is_told(loss, why):
    told = values(loss, preds=SEGMENTS, targets=SEGMENTS)
    assert list(told.coupled) == ["y"]
    assert not told.counts
    f = hw.balanced_grad(
        lambda p, x: values(loss, preds=p * x, targets=x),
        hw.balancers.equal(),
        microbatches=2,
    )
    state = hw.balancers.equal().init(["plain", "y"])
    with pytest.raises(ValueError, match=f"microbatches: .*head 'y'.*{why}"):
        f(1.0, state, SEGMENTS)
    with pytest.raises(ValueError, match=f"pmean: .*head 'y'.*{why}"):
        hw.objective.pmean(told, "devices")
    modo = hw.balancers.modo(batches=2)
    f = hw.balanced_grad(lambda p, x: values(loss, preds=p * x, targets=x), modo)
    with pytest.raises(ValueError, match=f"batches: .*head 'y'.*{why}"):
        f(1.0, modo.init(["plain", "y"]), SEGMENTS)


MEANS = hw.Means({"b": 2.0, "a": 1.0}, {"b": 3}, {"a": False}, {"b": "why"})


class TestMeans:
    def test_what_is_not_given_follows(self):
        assert {n: float(x) for n, x in MEANS.counts.items()} == {"a": 0.0, "b": 3.0}
        assert {n: float(x) for n, x in MEANS.present.items()} == {"a": 0.0, "b": 1.0}
        assert (MEANS["b"], dict(MEANS)) == (2.0, {"b": 2.0, "a": 1.0})

    def test_keep_what_is_told(self):
        def doubled(tree):
            return jax.tree.map(lambda x: x, tree)

        for same in (
            MEANS.copy(),
            MEANS | {},
            {} | MEANS,
            jax.jit(doubled)(MEANS),
            doubled(MEANS),
            pickle.loads(pickle.dumps(MEANS)),
            jax.vmap(lambda _: MEANS, axis_size=2)(None),
        ):
            assert isinstance(same, hw.Means)
            assert {n: float(jnp.max(x)) for n, x in same.items()} == dict(MEANS)
            assert same.coupled == {"b": "why"}
            for got, want in (
                (same.counts, MEANS.counts),
                (same.present, MEANS.present),
            ):
                assert {n: float(jnp.max(x)) for n, x in got.items()} == {
                    n: float(x) for n, x in want.items()
                }

    def test_a_value_that_is_replaced_takes_its_own_along(self):
        both = MEANS | {"b": 5.0, "c": 1.0}
        assert (both["b"], set(both.counts), both.coupled) == (5.0, {"a"}, {})
        both = {"b": 5.0, "c": 1.0} | MEANS
        assert (both["b"], set(both.counts)) == (2.0, {"a", "b"})
        both |= {"b": 7.0}
        assert set(both.counts) == {"a"}
        assert type({**MEANS}) is dict

    def test_leaves_come_in_sorted_order(self):
        paths = [
            jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(MEANS)
        ]
        assert paths == [
            "['a']",
            "['b']",
            ".counts['a']",
            ".counts['b']",
            ".present['a']",
            ".present['b']",
        ]

    def test_is_not_differentiated(self):
        def f(x):
            return hw.Means({"a": x**2}, counts={"a": x}, present={"a": x})

        for way in (jax.jacrev, jax.jacfwd):
            jacobian = jax.jit(way(f))(3.0)
            assert float(jacobian["a"]) == 6.0
            assert float(jacobian.counts["a"]) == 0.0

    def test_errors(self):
        with pytest.raises(ValueError, match=r"counts: unknown names \['b'\]"):
            hw.Means({"a": 1.0}, counts={"b": 1})
        with pytest.raises(TypeError, match="present: expected a dict"):
            hw.Means({"a": 1.0}, present=[True])


def test_gradients_hand_values_back_as_they_came():
    def masked(w, where):
        return values(l2, preds=w * PREDS, where=of_y(where))

    got, grads = jax.jit(hw.head_grads(masked))(2.0, WHERE)
    also, gram = jax.jit(hw.head_gramian(masked))(2.0, WHERE)
    for told in (got, also):
        assert list(told) == ["plain", "y"]
        assert told.counts["y"] == 3
    # The value is w² (1 + 4 + 16) / 3.
    np.testing.assert_allclose([grads["plain"], grads["y"]], [0.0, 28.0], rtol=1e-6)
    np.testing.assert_allclose(gram, [[0, 0], [0, 784]], rtol=1e-6)
    plain, aux = hw.gradients.with_aux(masked, False)(2.0, WHERE)
    assert (type(plain), aux) == (dict, None)


def test_affinity_of_an_absent_head_is_0():
    def masked(w, where):
        told = values(l2, preds=w * PREDS, where=of_y(where))
        return told | hw.Means({"z": w * jnp.nan}, present={"z": False})

    sgd = optax.sgd(0.01)
    f = jax.jit(hw.affinity(masked, sgd))
    told, matrix = f(2.0, sgd.init(2.0), WHERE)
    assert told.present["z"] == 0
    np.testing.assert_array_equal(matrix[2], 0.0)
    np.testing.assert_array_equal(matrix[:, 2], 0.0)
    assert np.isfinite(matrix).all()
    assert matrix[1, 1] > 0
