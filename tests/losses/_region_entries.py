"""Dice and its nearest relatives in the battery."""

import numpy as np

import headwise as hw
from tests.losses import _entry
from tests.losses import _reference

REGION = dict(
    activation=list(_entry.ACTIVATIONS),
    smooth=[1e-5, 0.0, 1.0, (0.5, 2.0)],
    squared=_entry.FLAGS,
    soft_targets=_entry.FLAGS,
    background=[True, False],
    class_weights=[None, np.array([0.5, 2.0, 0.0])],
    over_batch=_entry.FLAGS,
)
TRACED = dict(smooth=(1e-5, 1.0), class_weights=(np.ones(3), np.array([0.5, 2.0, 0.0])))

ENTRIES = {
    "dice": _entry.Entry(
        hw.losses.dice, _reference.dice, REGION, TRACED, perfect_is_0=True
    ),
    "iou": _entry.Entry(
        hw.losses.iou, _reference.iou, REGION, TRACED, perfect_is_0=True
    ),
    "tversky": _entry.Entry(
        hw.losses.tversky,
        _reference.tversky,
        REGION | dict(alpha=[0.5, 0.2, 1.0], beta=[0.5, 0.8, 2.0]),
        TRACED | dict(alpha=(0.2, 0.7), beta=(0.8, 0.3)),
        perfect_is_0=True,
    ),
    "generalized_dice": _entry.Entry(
        hw.losses.generalized_dice,
        _reference.generalized_dice,
        REGION | dict(weighting=["square", "simple", "uniform"]),
        TRACED,
        perfect_is_0=True,
    ),
}
