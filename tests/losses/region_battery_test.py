"""The battery for the losses of _region_entries."""

from tests.losses import _battery
from tests.losses import _region_entries


class TestRegion(_battery.Battery):
    entries = _region_entries.ENTRIES
