"""Options out of their range are errors by name, for every loss and every option."""

import inspect
import math

import jax
import jax.numpy as jnp
import pytest

import headwise as hw
from tests.losses import _draws
from tests.losses._families import ENTRIES

NOT_POSITIVE = (0.0, -1.0, math.inf, math.nan, 1e39, 10**400, "1", None, True)
NEGATIVE = (-0.5, math.inf, math.nan, 1e39, 10**400, "1", True)
NO_FRACTION = (-0.1, 1.1, math.nan, "0.5", True)
NO_FLAG = (1, "yes", None, 0.0)
NO_CHOICE = ("median", None, 1)

# What each option does not take. A new option belongs here, with its check.
BAD = {
    "absent": NO_CHOICE,
    "alpha": NEGATIVE,
    "asymmetric": NO_FLAG,
    "background": NO_FLAG,
    "beta": NEGATIVE,
    "ce_weight": NEGATIVE,
    "data_range": NOT_POSITIVE,
    "delta": NOT_POSITIVE,
    "dice_weight": NEGATIVE,
    "epsilon": (-1.5, math.nan, "1", None, True),
    "focal_weight": NEGATIVE,
    "fraction": (0.0, *NO_FRACTION, None),
    "gamma": NEGATIVE,
    "ignore": (2.5, "1", True),
    "iterations": (-1, 2.0, "3", None, True),
    "k1": NOT_POSITIVE,
    "k2": NOT_POSITIVE,
    "label_smoothing": NO_FRACTION,
    "log": NO_FLAG,
    "log_space": NO_FLAG,
    "over_batch": NO_FLAG,
    "positive_weight": NEGATIVE,
    "root": NO_FLAG,
    "scales": (0, 2.0, "3", None, True),
    "sensitivity_weight": NO_FRACTION,
    "sigma": NOT_POSITIVE,
    "size": (0, 2.0, "3", None, True),
    "smooth": (*NEGATIVE, None, (1.0, -1.0), (1.0, 2.0, 3.0)),
    "soft_targets": NO_FLAG,
    "spacing": ((0.0,), (-1.0,), (math.nan,), ("1",)),
    "squared": NO_FLAG,
    "threshold": (0.0, -1.0, math.inf, "1", True),
    "variance_focus": NO_FRACTION,
    "weight": NO_FRACTION,
    "weighting": NO_CHOICE,
    "window": NO_CHOICE,
}
OF_ONE_LOSS = {
    ("binary_focal", "alpha"): NO_FRACTION,
    ("dice_cldice", "alpha"): NO_FRACTION,
    ("dice_focal", "alpha"): NO_FRACTION,
    ("focal", "alpha"): NO_FRACTION,
    ("generalized_dice_focal", "alpha"): NO_FRACTION,
    ("hausdorff", "alpha"): NOT_POSITIVE,
    ("focal_tversky", "gamma"): NOT_POSITIVE,
    ("unified_focal", "delta"): NO_FRACTION,
    ("unified_focal", "gamma"): NO_FRACTION,
}
# Arrays and functions: the battery's table of misuse has these.
OTHERS = {"preds", "targets", "where", "activation", "class_weights", "distances"}


def options_of(name):
    return [o for o in inspect.signature(getattr(hw.losses, name)).parameters]


CASES = [
    (name, option)
    for name in sorted(set(ENTRIES) - {"mix"})
    for option in options_of(name)
    if option not in OTHERS
]


def arrays(name):
    """Predictions and targets that fit; labels where the loss takes these."""
    entry = ENTRIES[name]
    kind = "labels" if _draws.takes_labels(entry) else None
    return entry.loss, *_draws.example(entry, kind=kind)


def test_every_option_has_its_bad_values():
    assert {option for _, option in CASES} == set(BAD)
    assert set(OF_ONE_LOSS) <= set(CASES)


@pytest.mark.parametrize(("name", "option"), CASES)
def test_bad_options_are_clear_errors(name, option):
    loss, preds, targets = arrays(name)
    for bad in OF_ONE_LOSS.get((name, option), BAD[option]):
        with pytest.raises((ValueError, TypeError), match=rf"^{option}: expected"):
            loss(preds, targets, **{option: bad})


def test_traced_options_are_not_looked_at():
    loss, preds, targets = arrays("tversky")
    traced = jax.jit(lambda alpha: loss(preds, targets, alpha=alpha))
    assert jnp.all(jnp.isfinite(traced(-0.5)))
