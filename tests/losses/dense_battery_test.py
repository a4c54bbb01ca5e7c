"""The battery for the losses of _dense_entries."""

from tests.losses import _battery
from tests.losses import _dense_entries


class TestDense(_battery.Battery):
    entries = _dense_entries.ENTRIES
