"""What several processes read of one batch: together the batch, nothing twice."""

import itertools

import jax
import numpy as np
import pytest

from headwise import data

ARRAYS = {"x": np.arange(10), "y": np.arange(20).reshape(10, 2)}
SOURCES = {"a": np.arange(7), "b": np.arange(10, 22)}
FEEDS = {
    "arrays": lambda **share: data.stream(ARRAYS, batch_size=4, seed=3, **share),
    "records": lambda **share: data.stream(
        [{"x": np.int32(i)} for i in range(10)], batch_size=4, seed=3, **share
    ),
    "one": lambda **share: data.mix(SOURCES, batch_size=4, seed=3, **share),
    "all": lambda **share: data.mix(
        SOURCES, batch_size={"a": 2, "b": 4}, seed=3, batch_of="all", **share
    ),
    "any": lambda **share: data.mix(
        {n: {"x": x} for n, x in SOURCES.items()},
        batch_size=4,
        seed=3,
        batch_of="any",
        **share,
    ),
}


@pytest.mark.parametrize("name", FEEDS)
def test_parts_are_the_batch(name):
    """Over the ends of epochs, and from a state that one process alone saved."""
    feed = FEEDS[name]
    whole, parts = feed(), [feed(share=(i, 2)) for i in range(2)]
    for batch, *of_each in itertools.islice(zip(whole, *parts), 6):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *of_each)
        jax.tree.map(np.testing.assert_array_equal, joined, batch)
    iterator, second = iter(feed(share=(0, 1))), iter(parts[1])
    next(iterator)
    second.set_state(iterator.get_state())
    want = jax.tree.map(lambda x: x[len(x) // 2 :], next(iterator))
    jax.tree.map(np.testing.assert_array_equal, next(second), want)


@pytest.mark.parametrize("share", [(2, 2), (0, 3), (-1, 2), (0, 0), (0,), 1])
def test_a_share_that_is_none(share):
    for name in ("arrays", "records", "one", "any"):
        with pytest.raises((TypeError, ValueError), match=r"share|divide"):
            FEEDS[name](share=share)
