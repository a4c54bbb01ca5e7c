"""The losses with distances in the battery."""

import numpy as np

import headwise as hw
from tests.losses import _boundary_reference as reference
from tests.losses import _entry

OPTIONS = dict(
    activation=list(_entry.ACTIVATIONS),
    background=[True, False],
    class_weights=[None, np.array([0.5, 2.0, 0.0])],
)
TRACED = dict(
    class_weights=(np.ones(3), np.array([0.5, 2.0, 0.0])),
    spacing=(np.array([1.0]), np.array([0.3])),  # of one spatial axis
)

ENTRIES = {
    "boundary": _entry.Entry(
        hw.losses.boundary, reference.boundary, OPTIONS, TRACED, spatial=True
    ),
    "hausdorff": _entry.Entry(
        hw.losses.hausdorff,
        reference.hausdorff,
        OPTIONS | dict(alpha=[2.0, 1.0, 0.5, 3.0], log=_entry.FLAGS),
        TRACED | dict(alpha=(2.0, 1.3)),
        # A full prediction of an empty class is free: perfect_is_0 is not asked.
        spatial=True,
    ),
}
