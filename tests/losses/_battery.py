"""What every loss promises, as one battery; a family of losses is a subclass.

Tests take `name` and run for each of `entries`, or for those that they concern.
"""

from tests.losses import _battery_masks
from tests.losses import _battery_misuse
from tests.losses import _battery_values


class Battery(_battery_values.Values, _battery_masks.Masks, _battery_misuse.Misuse):
    """All tests; `entries` is {name: Entry}."""
