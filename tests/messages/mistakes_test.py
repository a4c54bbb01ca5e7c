"""What a user gets for the mistakes that one makes with the README in hand.

A row a mistake: what is typed, the exception, and the words that must be in its text:
the argument, what was expected, what came, and the way out. Notes count as text, since
Python prints them below it. Options out of their range are in `balancers/options_test`
and `losses/options_test`, of every factory and loss.
"""

import re

import pytest

from tests.messages import _kinds
from tests.messages import _parts
from tests.messages import _steps

TABLES = (
    _kinds.OF_KINDS,
    _steps.OF_STEPS,
    _steps.OF_FIT,
    _parts.OF_LOSSES,
    _parts.OF_BALANCERS,
    _parts.OF_THE_REST,
)
MISTAKES = {name: made for table in TABLES for name, made in table.items()}


def text_of(error):
    return " ".join([str(error), *getattr(error, "__notes__", ())]).replace("\n", " ")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name):
    made = MISTAKES[name]
    with pytest.raises(made.error) as caught:
        made.typed()
    assert re.search(made.words, text_of(caught.value)), text_of(caught.value)


def test_there_are_72_and_more():
    assert len(MISTAKES) == sum(map(len, TABLES)) >= 72
