"""One deterministic way to divide examples into training and test examples."""

import jax
import numpy as np

from headwise import _checks


def split(
    count: int, key: jax.Array, held_out: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint, shuffled index arrays that together cover 0 .. count - 1.

    The test part has round(held_out * count) examples, but at least 1, and leaves at
    least 1 for training.

    Args:
        count: the number of examples, >= 2.
        key: a key of `jax.random`; the same key gives the same split.
        held_out: the share of the test part, 0 < held_out < 1.

    Returns:
        (train, test), int32 numpy arrays; index any array with them.

    Raises:
        ValueError: count is no int >= 2, or held_out outside (0, 1).

    Example:
        >>> import jax
        >>> from headwise import data
        >>> train, test = data.split(10, jax.random.key(0), held_out=0.3)
        >>> len(train), len(test), sorted({*train.tolist(), *test.tolist()})
        (7, 3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if _checks.positive_int("count", count) < 2:
        raise ValueError(f"count: expected at least 2 examples to split, got {count}")
    if not (_checks.is_static(held_out) and 0 < held_out < 1):
        raise ValueError(f"held_out: expected a share in (0, 1), got {held_out!r}")
    _checks.key("key", key)
    order = np.asarray(jax.random.permutation(key, count), np.int32)
    test = min(max(round(held_out * count), 1), count - 1)
    return order[test:], order[:test]
