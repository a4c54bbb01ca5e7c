"""Sums that add up: values, empty entries, large counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.metrics import _arrays


def ratio(total, count):
    return hw.metrics.Ratio(jnp.asarray(total, float), jnp.asarray(count, float))


def test_value_and_mean_of_the_entries_that_are_there():
    r = ratio([1.0, 0.0, 3.0], [2.0, 0.0, 3.0])
    np.testing.assert_array_equal(r.value, [0.5, np.nan, 1.0])
    assert r.mean == 0.75
    assert r.total.shape == r.count.shape == (3,)


def test_nothing_is_nan():
    assert jnp.isnan(ratio(0.0, 0.0).value)
    assert jnp.isnan(ratio([0.0, 0.0], [0.0, 0.0]).mean)


def test_add_weighs_batches_by_their_counts():
    joined = hw.metrics.add(ratio(1.0, 1.0), ratio(0.0, 3.0))
    assert isinstance(joined, hw.metrics.Ratio)
    assert joined.value == 0.25


def test_entries_have_names():
    named = ratio([1.0, 0.0], [2.0, 0.0]).named(["road", "sky"])
    assert list(named) == ["road", "sky"]
    assert named["road"].value == 0.5
    assert jnp.isnan(named["sky"].value)
    assert hw.metrics.add(named, named)["road"].count == 4
    for names, words in (
        (["road"], r"one each for the entries \(2,\), got 1: \['road'\]"),
        (["road", "road"], "duplicate names"),
        ("ab", "got the str 'ab'"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            ratio([1.0, 0.0], [2.0, 0.0]).named(names)
    with pytest.raises(ValueError, match=r"the entries \(\), got 1"):
        ratio(1.0, 2.0).named(["all"])


def test_add_takes_a_pytree_of_metrics():
    one = {"a": ratio(1.0, 2.0), "b": [ratio([1.0], [1.0])]}
    two = hw.metrics.add(one, one)
    assert two["a"].total == 2
    assert two["b"][0].count == 2
    with pytest.raises(ValueError, match="a"):
        hw.metrics.add(one, {"a": ratio(1.0, 2.0)})


def test_add_joins_means_by_their_counts():
    """2 of 3 and 6 of 1 are (6 + 6) / 4; a head without data leaves no trace."""
    one = hw.Means({"a": 2.0, "b": jnp.nan}, counts={"a": 3, "b": 0})
    two = hw.Means({"a": 6.0, "b": 5.0}, counts={"a": 1, "b": 2})
    (both,) = hw.metrics.add([one], [two])
    assert (both["a"], both.counts["a"], both["b"], both.present["b"]) == (3, 4, 5, 1)
    (nothing,) = hw.metrics.add([one], [one])
    assert (nothing["b"], nothing.present["b"]) == (0, 0)
    bare = hw.Means({"a": 2.0})
    with pytest.raises(ValueError, match=r"counts of all heads.* none of \['a'\]"):
        hw.metrics.add(bare, bare)


def test_ratio_goes_through_jit_scan_and_vmap():
    def step(seen, batch):
        return hw.metrics.add(seen, hw.metrics.Ratio(batch.sum(), batch.size * 1.0)), 0

    batches = jnp.arange(6.0).reshape(3, 2)
    seen, _ = jax.jit(lambda b: jax.lax.scan(step, ratio(0.0, 0.0), b))(batches)
    assert seen.value == 2.5


def test_counts_do_not_stop_at_2_to_the_24():
    # A running float32 sum of ones stays at 16,777,216.
    flags = jnp.ones((2, 2**12, 2**12), bool)
    assert _arrays.count(flags) == 2**25
    assert _arrays.total(flags.astype(jnp.float32)) == 2**25


def test_partial_sums_keep_their_digits():
    values = np.random.default_rng(0).uniform(0.5, 1.0, (4, 1024, 512))
    values = values.astype(np.float32)
    expected = np.sum(values, dtype=np.float64)
    # Sums of up to 1024 positive terms, three deep, each of them in a tree.
    np.testing.assert_allclose(_arrays.total(jnp.array(values)), expected, rtol=1e-6)
