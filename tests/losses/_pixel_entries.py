"""Losses of single positions, the compounds and a mixture in the battery."""

import numpy as np
import optax

import headwise as hw
from tests.losses import _entry
from tests.losses import _pixel_reference as reference

WEIGHTS = [None, np.array([0.5, 2.0, 0.25])]
ALPHAS = [None, 0.25, np.array([0.5, 1.0, 0.2])]
SMOOTHING = [0.0, 0.1]
TRACED_WEIGHTS = (np.ones(3), np.array([0.5, 2.0, 0.1]))
REGION = dict(
    activation=["softmax", "sigmoid"],
    smooth=[1e-5, 1.0, (0.5, 2.0)],
    squared=_entry.FLAGS,
    background=_entry.FLAGS,
    class_weights=WEIGHTS,
    dice_weight=[1.0, 0.3],
)
LOGITS = dict(preds=_entry.normal)

ENTRIES = {
    "cross_entropy": _entry.Entry(
        hw.losses.cross_entropy,
        reference.cross_entropy,
        options=dict(class_weights=WEIGHTS, label_smoothing=SMOOTHING),
        traced=dict(class_weights=TRACED_WEIGHTS, label_smoothing=(0.0, 0.2)),
        **LOGITS,
    ),
    "poly": _entry.Entry(
        hw.losses.poly,
        reference.poly,
        options=dict(class_weights=WEIGHTS, epsilon=[-0.5, 1.0, 2.0]),
        traced=dict(class_weights=TRACED_WEIGHTS, epsilon=(0.5, 2.0)),
        **LOGITS,
    ),
    "focal": _entry.Entry(
        hw.losses.focal,
        reference.focal,
        options=dict(
            gamma=[0.0, 0.5, 2.0, 3.5],
            alpha=ALPHAS,
            class_weights=WEIGHTS,
            label_smoothing=SMOOTHING,
        ),
        traced=dict(gamma=(0.0, 2.0), alpha=(0.25, 0.75), class_weights=TRACED_WEIGHTS),
        **LOGITS,
    ),
    "binary_cross_entropy": _entry.Entry(
        hw.losses.binary_cross_entropy,
        reference.binary_cross_entropy,
        options=dict(
            class_weights=WEIGHTS,
            positive_weight=[1.0, 3.0, np.array([1.0, 2.0, 0.5])],
            label_smoothing=SMOOTHING,
        ),
        traced=dict(class_weights=TRACED_WEIGHTS, positive_weight=(1.0, 3.0)),
        **LOGITS,
    ),
    "binary_focal": _entry.Entry(
        hw.losses.binary_focal,
        reference.binary_focal,
        options=dict(
            gamma=[0.0, 0.5, 2.0, 3.5],
            alpha=ALPHAS,
            class_weights=WEIGHTS,
            label_smoothing=SMOOTHING,
        ),
        traced=dict(gamma=(0.0, 2.0), alpha=(0.25, 0.75), class_weights=TRACED_WEIGHTS),
        **LOGITS,
    ),
    "dice_ce": _entry.Entry(
        hw.losses.dice_ce,
        reference.dice_ce,
        options=REGION | dict(ce_weight=[1.0, 0.5], label_smoothing=SMOOTHING),
        traced=dict(
            smooth=(1e-5, 1.0),
            dice_weight=(0.0, 0.5),
            ce_weight=(0.0, 2.0),
            class_weights=TRACED_WEIGHTS,
        ),
        **LOGITS,
    ),
    "dice_focal": _entry.Entry(
        hw.losses.dice_focal,
        reference.dice_focal,
        options=REGION
        | dict(focal_weight=[1.0, 0.5], gamma=[0.5, 2.0], alpha=[None, 0.25]),
        traced=dict(
            smooth=(1e-5, 1.0),
            dice_weight=(0.0, 0.5),
            focal_weight=(0.0, 2.0),
            gamma=(2.0, 1.0),
        ),
        **LOGITS,
    ),
    "generalized_dice_focal": _entry.Entry(
        hw.losses.generalized_dice_focal,
        reference.generalized_dice_focal,
        options=REGION
        | dict(
            focal_weight=[1.0, 0.5],
            gamma=[0.5, 2.0],
            alpha=[None, 0.25],
            weighting=["square", "simple", "uniform"],
        ),
        traced=dict(smooth=(1e-5, 1.0), focal_weight=(0.0, 2.0), gamma=(2.0, 1.0)),
        **LOGITS,
    ),
    "mix": _entry.Entry(
        hw.losses.mix(
            {"dice": (hw.losses.dice, 0.7), "l2": (optax.losses.squared_error, 0.3)}
        ),
        reference.dice_and_squared_error,
        targets=("one-hot", "soft"),
        perfect_is_0=True,
    ),
}
