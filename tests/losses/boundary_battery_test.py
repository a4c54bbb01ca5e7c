"""The battery for the losses of _boundary_entries."""

from tests.losses import _battery
from tests.losses import _boundary_entries


class TestBoundary(_battery.Battery):
    entries = _boundary_entries.ENTRIES
