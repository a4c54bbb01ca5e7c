"""The dense regression losses and SSIM in the battery."""

import functools

import numpy as np

import headwise as hw
from tests.losses import _dense_reference as reference
from tests.losses import _entry


def real_targets(rng, shape, kind):
    """Any real values."""
    return rng.normal(size=shape).astype(np.float32)


def positive(rng, shape):
    """Predicted depths: near 0 the third derivative of a log spoils differences."""
    return rng.uniform(0.5, 2.0, shape).astype(np.float32)


def depths(rng, shape, kind):
    """Depths in (0.1, 2), or missing: 0."""
    depth = rng.uniform(0.1, 2.0, shape).astype(np.float32)
    return np.where(rng.random(shape) < 0.8, depth, np.float32(0))


def vectors(rng, shape, kind):
    """Vectors of any length; some positions have none."""
    known = rng.random((*shape[:-1], 1)) < 0.8
    return np.where(known, rng.normal(size=shape), 0).astype(np.float32)


def images(rng, shape, kind):
    """In (0, 1)."""
    return rng.uniform(size=shape).astype(np.float32)


REGRESSION = dict(
    preds=_entry.normal,
    targets=("soft",),
    make_targets=real_targets,
)

ENTRIES = {
    "absolute_error": _entry.Entry(
        hw.losses.absolute_error, reference.absolute_error, **REGRESSION
    ),
    "squared_error": _entry.Entry(
        hw.losses.squared_error, reference.squared_error, **REGRESSION
    ),
    "huber": _entry.Entry(
        hw.losses.huber,
        reference.huber,
        options=dict(delta=[0.3, 1.0, 5.0]),
        traced=dict(delta=(0.3, 2.0)),
        **REGRESSION,
    ),
    # The rule for c is a constant for the gradient, not for finite differences: it is
    # drawn in dense_test.py.
    "berhu": _entry.Entry(
        hw.losses.berhu,
        reference.berhu,
        options=dict(threshold=[0.3, 1.0, 5.0]),
        traced=dict(threshold=(0.3, 2.0)),
        **REGRESSION,
    ),
    "scale_invariant_log": _entry.Entry(
        hw.losses.scale_invariant_log,
        reference.scale_invariant_log,
        options=dict(
            variance_focus=[0.0, 0.5, 0.85],
            log_space=_entry.FLAGS,
            root=_entry.FLAGS,
        ),
        traced=dict(variance_focus=(0.5, 0.85)),
        preds=positive,
        targets=("soft",),
        make_targets=depths,
        perfect_is_0=True,
    ),
    "gradient_matching": _entry.Entry(
        hw.losses.gradient_matching,
        reference.gradient_matching,
        options=dict(scales=[1, 2, 4]),
        preds=_entry.normal,
        targets=("soft",),
        make_targets=real_targets,
        spatial=True,
        perfect_is_0=True,
    ),
    "normal_cosine": _entry.Entry(
        hw.losses.normal_cosine,
        reference.normal_cosine,
        preds=_entry.normal,
        targets=("soft",),
        make_targets=vectors,
    ),
    # The default window of 11 does not fit in the arrays of the battery; ssim_test.py
    # has it.
    "ssim": _entry.Entry(
        functools.partial(hw.losses.ssim, size=2),
        functools.partial(reference.ssim, size=2),
        options=dict(
            window=["gaussian", "uniform"],
            sigma=[0.5, 1.5],
            data_range=[1.0, 2.0],
            k1=[0.01, 0.1],
            k2=[0.03, 0.1],
        ),
        traced=dict(
            sigma=(0.5, 1.5), data_range=(1.0, 2.0), k1=(0.01, 0.1), k2=(0.03, 0.1)
        ),
        targets=("soft",),
        make_targets=images,
        spatial=True,
        perfect_is_0=True,
        # A variance is off by some 1e-8 (float32, squares up to 1/4), beside
        # k2² = 9e-4.
        close=dict(rtol=0, atol=2e-5),
    ),
}
