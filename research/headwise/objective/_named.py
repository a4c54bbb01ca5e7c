"""Names for sequences: the one place where an order is turned into names."""

from collections.abc import Sequence
from typing import Any

from headwise import _checks


def named(names: Sequence[str], items: Sequence[Any]) -> dict[str, Any]:
    """The items of a sequence as a dict, by the names given in the same order.

    For models that return a tuple of outputs, and for lists of losses and weights.

    Args:
        names: distinct non-empty strings.
        items: as many items.

    Returns:
        `{names[0]: items[0], ...}`.

    Raises:
        ValueError: lengths differ, or a name occurs twice.
        TypeError: a name is no str, `names` is one, or `items` is no sequence.

    Example:
        >>> hw.named(["y1", "y2"], [0.5, 0.3])
        {'y1': 0.5, 'y2': 0.3}
    """
    _checks.head_names("names", names)
    listed = hasattr(items, "__len__") and getattr(items, "ndim", True)
    if isinstance(items, dict) or not listed:
        raise TypeError(f"items: expected a sequence, got {type(items).__name__}")
    if len(names) != len(items):
        raise ValueError(
            f"items: expected {len(names)} items for the names {list(names)}, got "
            f"{len(items)}"
        )
    return dict(zip(names, items, strict=True))
