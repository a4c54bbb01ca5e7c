"""Every option of every factory refuses what it cannot be, in words that name it."""

import inspect
import re

import pytest

import headwise as hw
from tests.balancers import _cases


def bad_options():
    """(factory, option, value) of all that is refused."""
    for name, case in _cases.CASES.items():
        for option, bad in case.bad.items():
            for number, got in enumerate(bad.got):
                yield pytest.param(name, option, got, id=f"{name}-{option}-{number}")


@pytest.mark.parametrize(("name", "option", "got"), list(bad_options()))
def test_a_bad_option_is_named(name, option, got):
    case = _cases.CASES[name]
    bad = case.bad[option]
    options = {**case.options(_cases.NAMES), **bad.others, option: got}
    words = rf"^{option}(\[.*\])?: expected {bad.expected}.*, got "
    with pytest.raises((ValueError, TypeError), match=words):
        # Some scalars are looked at when their heads are known.
        getattr(hw.balancers, name)(**options).init(
            sorted(got) if isinstance(got, dict) else _cases.NAMES
        )


@pytest.mark.parametrize("name", _cases.CASES)
def test_the_table_has_every_option(name):
    parameters = inspect.signature(getattr(hw.balancers, name)).parameters
    assert sorted(_cases.CASES[name].bad) == sorted(parameters)


def test_the_words_are_those_of_the_argument():
    """`every(2.5, b)` passed once."""
    for bad in (2.5, True, 0):
        words = f"k: expected a positive int, got {bad}"
        with pytest.raises(ValueError, match=re.escape(words)):
            hw.balancers.every(bad, hw.balancers.mgda())
