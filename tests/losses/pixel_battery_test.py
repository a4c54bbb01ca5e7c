"""The battery for the losses of _pixel_entries."""

from tests.losses import _battery
from tests.losses import _pixel_entries


class TestPixel(_battery.Battery):
    entries = _pixel_entries.ENTRIES
