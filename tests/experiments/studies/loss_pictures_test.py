"""The pictures of the losses are drawn, of every loss, and show what they should."""

import subprocess
import sys

import numpy as np
import pytest

import headwise as hw
from experiments.harness import command
from experiments.studies import loss_pictures

# No loss of arrays, or one that differs from one that is shown only in its parts.
LEFT_OUT = {"checked", "deep_supervision", "distance_transform", "mix"} | {
    "binary_cross_entropy",
    "binary_focal",
    "dice_focal",
    "generalized_dice_focal",
}


@pytest.mark.slow
def test_pictures(tmp_path):
    argv = ["loss_pictures", "--points=7"]
    drawn = command.guarded(loss_pictures.main, [*argv, f"--output={tmp_path / 'new'}"])
    assert drawn == 0
    for name in ("loss_curves.png", "loss_gradients.png"):
        picture = (tmp_path / "new" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
    words = [sys.executable, "-m", "experiments.studies.loss_pictures", "more"]
    wrong = subprocess.run(words, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "more" in wrong.stdout + wrong.stderr


def test_every_loss_has_a_panel():
    groups = (
        loss_pictures.REGION,
        loss_pictures.POSITION,
        loss_pictures.PLACE,
        loss_pictures.VALUE,
    )
    shown = {title.split(" ")[0] for group in groups for title in group}
    assert shown == set(hw.losses.__all__) - LEFT_OUT


def test_slopes_of_values_are_those_of_the_curve():
    for title in ("squared_error", "scale_invariant_log", "normal_cosine"):
        panel = loss_pictures.of_error(title, loss_pictures.VALUE[title])
        curve = panel.curves["value"]
        between = (curve.slopes["slope"][1:] + curve.slopes["slope"][:-1]) / 2
        steps = np.diff(curve.values) / np.diff(panel.x)
        # The trapezoidal rule is off by the third derivative over these short steps.
        np.testing.assert_allclose(steps, between, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize(
    ("title", "at", "steep"),
    [
        # As docs/guides/losses.md says; at is the index of the logits -6, -5.5 .. 6.
        ("dice", [0, 11], [[0.0045, 0.23], [0.00039, 0.036]]),
        ("cross_entropy", [0, 24], [[0.01, 2.5e-5]] * 2),
        ("dice_ce", [0], [[0.012], [0.01]]),
        ("focal", [24], [[4.5e-10]] * 2),
    ],
)
def test_gradients_of_a_rare_structure(title, at, steep):
    losses = {**loss_pictures.REGION, **loss_pictures.POSITION}
    panel = loss_pictures.of_rare_structure(title, losses[title], 25)
    slopes = [slope for c in panel.curves.values() for slope in c.slopes.values()]
    # Two digits are written.
    np.testing.assert_allclose([slope[at] for slope in slopes], steep, rtol=0.05)


def test_dice_does_not_see_how_far_away_a_bar_is():
    shifts = {}
    for title in ("dice", "boundary", "hausdorff"):
        panel = loss_pictures.of_shifted_bar(title, loss_pictures.PLACE[title])
        shifts[title] = panel.curves["value"].values[loss_pictures.WIDTH :]
    # Sums of the same numbers in another order.
    np.testing.assert_allclose(shifts["dice"], shifts["dice"][0], rtol=1e-5)
    assert (np.diff(shifts["boundary"]) > 0).all()
    assert (np.diff(shifts["hausdorff"]) > 0).all()
