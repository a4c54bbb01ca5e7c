"""Tables and summaries of a study."""

import numpy as np
import pytest

import headwise as hw

HIGHER = {"dice": True, "error": False}


def record(w, seed, dice, error, finite=True):
    return {
        "weights": {"a": w, "b": 1.0},
        "seed": seed,
        "finite": finite,
        "metrics": {"dice": dice, "error": error},
    }


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    rows = []
    for w, dice in ((0.1, 0.6), (1.0, 0.8), (10.0, 0.7)):
        for seed in range(4):
            rows.append(record(w, seed, dice + 0.01 * rng.normal(), rng.uniform()))
    rows.append(record(10.0, 4, None, None, finite=False))
    return rows


def test_summary_is_mean_and_sample_deviation(records):
    rows = hw.reports.summary(records)
    dice = [r["metrics"]["dice"] for r in records[:4]]
    assert rows[0]["mean"]["dice"] == pytest.approx(sum(dice) / 4)
    squares = sum((d - sum(dice) / 4) ** 2 for d in dice)
    assert rows[0]["std"]["dice"] == pytest.approx((squares / 3) ** 0.5)
    assert [row["diverged"] for row in rows] == [0, 0, 1]


def test_table_marks_best_front_and_diverged(records):
    lines = hw.reports.sweep_table(records, HIGHER, "a title").splitlines()
    assert lines[0] == "a title (b=1 throughout)"
    dice = {line.split("  ")[0]: line.split("±")[1] for line in lines if "±" in line}
    assert [name for name, cell in dice.items() if "*" in cell] == ["a=1"]
    best = next(line for line in lines if line.startswith("a=1 "))
    assert "front" in best
    assert "1 diverged" in lines[-1]


def test_labels_are_short_and_tell_weightings_apart():
    def first_column(*weights):
        rows = [record(w, 0, 0.5, 0.1) for w in weights]
        lines = hw.reports.sweep_table(rows, HIGHER).splitlines()
        return [line.split()[0] for line in lines[3:]]

    assert first_column(1 / 3, 2 / 3) == ["a=0.333", "a=0.667"]
    assert first_column(0.33331, 0.33332) == ["a=0.33331", "a=0.33332"]


def test_study_without_finite_trial_is_reported():
    rows = [record(1.0, 0, None, None, finite=False)]
    assert "1 diverged" in hw.reports.sweep_table(rows, HIGHER)
    assert hw.reports.sweep_table(rows, HIGHER).endswith(
        "no finite trial: all 1 diverged"
    )
    assert hw.reports.verdict(rows, HIGHER).splitlines() == [
        "dice: no finite value; 1 of 1 trials diverged",
        "error: no finite value; 1 of 1 trials diverged",
    ]


def test_mean_contributions_average_over_the_run():
    def one(step, share):
        trunk = {
            "a": {"norm": 1.0, "share": share},
            "b": {"norm": 3.0, "share": 1 - share},
            "cosine": {"a|b": -share},
        }
        return {"step": step, "contributions": {"trunk": trunk}}

    # As 0.2.0 wrote them.
    c = hw.reports.mean_contributions([one(1, 0.2), {"step": 2}, one(3, 0.6)])
    np.testing.assert_allclose(c.share, [[0.4, 0.6]])
    np.testing.assert_allclose(c.cosine, [[[1, -0.4], [-0.4, 1]]])
    with pytest.raises(ValueError, match="expected records with contributions"):
        hw.reports.mean_contributions([{"step": 1}])


def reported(module="trunk", cosine=0.0, **pulls):
    """A record of heads whose gradients have length 2, or 0 where they pull nothing."""
    total = sum(pulls.values())
    row = {
        name: {"norm": 2.0 * (pull != 0), "share": pull / total, "pull": pull}
        for name, pull in pulls.items()
    }
    first, second = pulls
    row[first]["cosine"] = {second: cosine} if all(pulls.values()) else {}
    return {"contributions": {module: row}}


def test_a_step_whose_pulls_cancel_does_not_decide_a_run():
    """Nine steps half and half, and one of -490 and 491 times a thousandth."""
    history = [reported(a=0.5, b=0.5)] * 9 + [reported(a=-0.49, b=0.491)]
    last = history[-1]["contributions"]["trunk"]
    np.testing.assert_allclose([last["a"]["share"], last["b"]["share"]], [-490, 491])
    c = hw.reports.mean_contributions(history)
    # (9 * 0.5 - 0.49) / 9.001 and (9 * 0.5 + 0.491) / 9.001
    np.testing.assert_allclose(c.share, [[4.01 / 9.001, 4.991 / 9.001]], rtol=1e-6)
    # Records of 0.2.0 say no more than the ratios: their median.
    for record in (history[0], history[-1]):
        for head in record["contributions"]["trunk"].values():
            del head["pull"]
    nothing = {name: {"norm": 0.0, "share": 0.0} for name in "ab"}
    history += [{"contributions": {"trunk": nothing}}] * 20
    median = hw.reports.mean_contributions(history)
    np.testing.assert_allclose(median.share, [[0.5, 0.5]])
    assert not hw.reports.mean_contributions(history[-1:]).share.any()


def test_means_are_over_the_records_in_which_a_head_moves_the_module():
    """As values are: 0 stands for no data, None for what is not finite."""
    broken = reported(a=1.0, b=1.0, cosine=-1.0)
    broken["contributions"]["trunk"]["b"] |= {"norm": None, "share": None, "pull": None}
    history = [reported(a=3.0, b=1.0, cosine=0.5), reported(a=2.0, b=0.0), broken]
    c = hw.reports.mean_contributions(history)
    np.testing.assert_allclose(c.norm, [[2.0, 2.0]])
    np.testing.assert_allclose(c.share, [[5 / 6, 1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(c.cosine, [[[1, 0.5], [0.5, 1]]])
    # A module that newer records split is told as they tell it.
    c = hw.reports.mean_contributions([*history, reported("trunk/w", a=1.0, b=3.0)])
    assert c.modules == ("trunk/w",)
    np.testing.assert_allclose(c.share, [[0.25, 0.75]])
