"""The checks that every layer uses: what passes, and the words of what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from headwise import _checks


@pytest.mark.parametrize("got", [1, 7, np.int32(3), np.uint8(1)])
def test_positive_ints_come_back_as_ints(got):
    found = _checks.positive_int("k", got)
    assert type(found) is int
    assert found == got


@pytest.mark.parametrize("got", [0, -1, 2.5, 2.0, "2", None, True, np.float32(2)])
def test_what_is_no_positive_int(got):
    with pytest.raises(ValueError, match=r"^k: expected a positive int, got "):
        _checks.positive_int("k", got)


def test_zero_is_a_nonnegative_int():
    assert _checks.nonnegative_int("steps", 0) == 0
    with pytest.raises(ValueError, match=r"steps: expected an int >= 0, got -1"):
        _checks.nonnegative_int("steps", -1)


def test_ints_of_any_sign_and_distinct_ones():
    assert _checks.integer("seed", np.int64(-3)) == -3
    assert _checks.distinct_ints("seeds", (1, np.int32(0))) == [1, 0]
    assert _checks.distinct_ints("seeds", range(3)) == [0, 1, 2]
    for bad in (0.5, 1.0, True, "1", None):
        with pytest.raises(ValueError, match=r"^seed: expected an int, got "):
            _checks.integer("seed", bad)
        with pytest.raises(ValueError, match=r"^seeds\[1\]: expected an int, got "):
            _checks.distinct_ints("seeds", [7, bad])
    for bad in ([], [2, 2]):
        with pytest.raises(ValueError, match=r"seeds: expected one or more distinct"):
            _checks.distinct_ints("seeds", bad)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (_checks.positive, [1e-30, 2, np.float32(0.5)], [0, -1.0, np.inf, np.nan]),
        (_checks.nonnegative, [0, 0.0, np.float64(3)], [-1e-9, np.inf, np.nan]),
        (_checks.fraction, [0, 1, 0.3], [-0.1, 1.5, np.nan]),
        (
            lambda argument, got: _checks.between(argument, 0, 100, got),
            [0, 95.0, 100],
            [-1e-9, 100.1, np.nan],
        ),
        (_checks.below_one, [0, 0.999], [-0.1, 1, np.nan]),
        (_checks.number, [-3, 0, np.float32(2.5)], [np.inf, -np.inf, np.nan]),
    ],
)
def test_ranges_of_numbers(check, good, bad):
    for got in good:
        check("c", got)
        check("c", jnp.asarray(got))
    for got in [*bad, None, "0.5", True]:
        with pytest.raises(ValueError, match=r"^c: expected a .*, got "):
            check("c", got)


def test_a_range_without_a_check_of_its_own():
    for got in (1, 2.5, jnp.asarray(0.5)):  # an array may be traced
        _checks.in_range("p", got, "a number >= 1", lambda x: x >= 1)
    for got in (0.5, np.nan, "2", None, True):
        with pytest.raises(ValueError, match=r"^p: expected a number >= 1, got "):
            _checks.in_range("p", got, "a number >= 1", lambda x: x >= 1)


def test_traced_numbers_are_not_looked_at():
    @jax.jit
    def f(x):
        _checks.positive("x", x)
        return x

    assert f(-1.0) == -1.0


def test_flags_and_functions():
    _checks.boolean("on", False)
    _checks.function("f", len)
    with pytest.raises(TypeError, match=r"on: expected True or False, got 1"):
        _checks.boolean("on", 1)
    with pytest.raises(TypeError, match=r"f: expected a callable, got int"):
        _checks.function("f", 3)


def test_a_string_is_no_sequence_of_names():
    with pytest.raises(TypeError, match=r"names: expected a sequence.*'seg'"):
        _checks.head_names("names", "seg")
