"""The one place where an order is turned into names."""

import jax
import jax.numpy as jnp
import pytest

import headwise as hw


def test_pairs_in_the_given_order():
    assert hw.named(["b", "a"], (1, 2)) == {"b": 1, "a": 2}


def test_outputs_of_a_model_that_returns_a_tuple():
    @jax.jit
    def doubled(x):
        return hw.named(["y1", "y2"], (x, 2 * x))["y2"]

    assert float(doubled(jnp.array(3.0))) == 6.0


@pytest.mark.parametrize(
    ("names", "items", "error", "text"),
    [
        (["a", "b"], [1], ValueError, r"2 items.*\['a', 'b'\].*got 1"),
        (["a"], [1, 2], ValueError, "1 items.*got 2"),
        (["a", "a"], [1, 2], ValueError, r"duplicate names \['a'\]"),
        ([0, 1], [1, 2], TypeError, "0 of type int"),
        ("ab", [1, 2], TypeError, "sequence of names of heads.*'ab'"),
        (["a"], {"a": 1}, TypeError, "sequence.*dict"),
        (["a"], 1.0, TypeError, "sequence.*float"),
    ],
)
def test_misuse_is_a_clear_error(names, items, error, text):
    with pytest.raises(error, match=text):
        hw.named(names, items)
