"""What a mistake is: what is typed, the exception, and the words of its text."""

import re
import typing


class Mistake(typing.NamedTuple):
    """What is typed, the exception, and words of its text in their order."""

    typed: typing.Callable
    error: type
    words: str


def mistake(typed, error, *words):
    """A row; the words stand in their order, with anything between."""
    return Mistake(typed, error, ".*".join(map(re.escape, words)))
