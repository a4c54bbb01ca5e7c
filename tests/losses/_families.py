"""The entries of all losses, a family a file."""

from tests.losses import _boundary_entries
from tests.losses import _dense_entries
from tests.losses import _pixel_entries
from tests.losses import _region_entries
from tests.losses import _shape_entries

FAMILIES = (
    _boundary_entries,
    _dense_entries,
    _pixel_entries,
    _region_entries,
    _shape_entries,
)
ENTRIES = {name: entry for f in FAMILIES for name, entry in f.ENTRIES.items()}
