"""Region losses beyond Dice in the battery."""

import functools

import numpy as np

import headwise as hw
from tests.losses import _entry
from tests.losses import _shape_reference as reference

SHARED = dict(background=[True, False], class_weights=[None, np.array([0.5, 2.0, 0.0])])
ACTIVATION = dict(activation=list(_entry.ACTIVATIONS))
OVER_BATCH = dict(over_batch=_entry.FLAGS)
SMOOTH = dict(smooth=[1e-5, 0.0, 1.0, (0.5, 2.0)])
WEIGHTS = dict(class_weights=(np.ones(3), np.array([0.5, 2.0, 0.0])))
LOVASZ = SHARED | OVER_BATCH | dict(absent=["count", "zero"])
CLDICE = SHARED | ACTIVATION | SMOOTH | dict(iterations=[0, 1, 3])
DISTANCES = np.array([[0.0, 2.0, 1.5], [2.0, 0.0, 0.5], [1.0, 0.5, 0.0]])


def apart(loss):
    """The loss with distances of 1 between all classes, unless others are given."""

    @functools.wraps(loss)
    def with_distances(preds, targets, **options):
        default = 1.0 - np.eye(np.shape(preds)[-1])
        return loss(preds, targets, **dict(distances=default) | options)

    return with_distances


ENTRIES = {
    "lovasz_softmax": _entry.Entry(
        hw.losses.lovasz_softmax,
        reference.lovasz_softmax,
        LOVASZ | ACTIVATION,
        WEIGHTS,
        perfect_is_0=True,
    ),
    "lovasz_hinge": _entry.Entry(
        hw.losses.lovasz_hinge,
        reference.lovasz_hinge,
        LOVASZ,
        WEIGHTS,
        preds=_entry.normal,
    ),
    # A full prediction of an empty class has no skeleton: perfect_is_0 is not asked.
    "cldice": _entry.Entry(
        hw.losses.cldice,
        reference.cldice,
        CLDICE,
        WEIGHTS | dict(smooth=(1.0, 0.1)),
        spatial=True,
    ),
    "dice_cldice": _entry.Entry(
        hw.losses.dice_cldice,
        reference.dice_cldice,
        CLDICE | dict(alpha=[0.5, 0.0, 0.8]),
        WEIGHTS | dict(smooth=(1.0, 0.1), alpha=(0.5, 0.2)),
        spatial=True,
        perfect_is_0=True,
    ),
    "generalized_wasserstein_dice": _entry.Entry(
        apart(hw.losses.generalized_wasserstein_dice),
        apart(reference.generalized_wasserstein_dice),
        ACTIVATION
        | OVER_BATCH
        | SMOOTH
        | dict(
            weighting=["default", "simple"],
            distances=[DISTANCES, np.ones((3, 3)) - np.eye(3)],
        ),
        dict(smooth=(1e-5, 1.0), distances=(DISTANCES, 1.0 - np.eye(3))),
        perfect_is_0=True,
    ),
    "mcc": _entry.Entry(
        hw.losses.mcc,
        reference.mcc,
        SHARED | ACTIVATION | OVER_BATCH | SMOOTH,
        WEIGHTS | dict(smooth=(1e-5, 1.0)),
        perfect_is_0=True,
    ),
    # Of the default weight of 0.05 nothing is left to see in p = t / 2.
    "sensitivity_specificity": _entry.Entry(
        functools.partial(hw.losses.sensitivity_specificity, sensitivity_weight=0.5),
        functools.partial(reference.sensitivity_specificity, sensitivity_weight=0.5),
        SHARED
        | ACTIVATION
        | OVER_BATCH
        | dict(sensitivity_weight=[0.05, 0.0, 0.5, 1.0]),
        WEIGHTS | dict(sensitivity_weight=(0.05, 0.7)),
        perfect_is_0=True,
    ),
    "focal_tversky": _entry.Entry(
        hw.losses.focal_tversky,
        reference.focal_tversky,
        SHARED
        | ACTIVATION
        | OVER_BATCH
        | SMOOTH
        | dict(
            squared=_entry.FLAGS,
            soft_targets=_entry.FLAGS,
            alpha=[0.5, 0.3, 1.0],
            beta=[0.5, 0.7, 2.0],
            gamma=[0.75, 0.5, 1.0, 2.0],
        ),
        WEIGHTS
        | dict(
            smooth=(1e-5, 1.0), alpha=(0.3, 0.7), beta=(0.7, 0.3), gamma=(0.75, 2.0)
        ),
        perfect_is_0=True,
    ),
    "unified_focal": _entry.Entry(
        hw.losses.unified_focal,
        reference.unified_focal,
        ACTIVATION
        | SMOOTH
        | dict(
            weight=[0.5, 0.0, 1.0],
            delta=[0.6, 0.7],
            gamma=[0.5, 0.0, 0.2],
            asymmetric=_entry.FLAGS,
        ),
        dict(smooth=(1e-5, 1.0), weight=(0.5, 0.3), delta=(0.6, 0.7), gamma=(0.5, 0.2)),
        perfect_is_0=True,
    ),
}
