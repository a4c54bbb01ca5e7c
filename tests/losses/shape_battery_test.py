"""The battery for the losses of _shape_entries."""

from tests.losses import _battery
from tests.losses import _shape_entries


class TestShape(_battery.Battery):
    entries = _shape_entries.ENTRIES
