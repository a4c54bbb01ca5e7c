"""A record as columns of numbers: the names of CSV files and of TensorBoard's tags."""

import functools
import re
from collections.abc import Mapping
from typing import Any

from headwise import _text

_ESCAPE = re.compile("%(2F|25)")
_ESCAPED = re.compile("%(?=2F|25)")
"""What would be read as an escape."""


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """What a nested dict holds, in pairs: ("values/a", 0.5).

    A "/" inside of a name is written "%2F": no two entries have the same column, as
    those of {"a": {"b/c": 1}} and {"a/b": {"c": 1}} would. Modules in `contributions`
    are paths and stay as they are.

    Example:
        >>> from headwise import _columns
        >>> _columns.flat({"step": 2, "values": {"a": 0.5, "b/c": None}})
        [('step', 2), ('values/a', 0.5), ('values/b%2Fc', None)]
    """
    pairs = []
    for name, value in record.items():
        whole = _part(name, prefix != "contributions/")
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{whole}/")
        else:
            pairs.append((prefix + whole, value))
    return pairs


def part(text: str) -> str:
    """A name as it was, of one between the "/" of a column.

    Example:
        >>> from headwise import _columns
        >>> _columns.part("b%2Fc"), _columns.part("50%25")
        ('b/c', '50%')
    """
    return _ESCAPE.sub(lambda found: {"2F": "/", "25": "%"}[found[1]], text)


@functools.lru_cache(maxsize=4096)
def _part(name: Any, escaped: bool) -> str:
    text = _text.printable(name)
    return _ESCAPED.sub("%25", text).replace("/", "%2F") if escaped else text


def is_number(value: Any) -> bool:
    """Whether a table or a curve can show it."""
    return isinstance(value, int | float)
