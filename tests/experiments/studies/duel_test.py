"""The duel runs small, and knows what is asked."""

import json
import subprocess
import sys

import numpy as np
import pytest

import headwise as hw
from experiments.harness import command
from experiments.studies import balancer_duel
from experiments.studies import duel


@pytest.mark.slow
def test_duel(tmp_path, capsys):
    flags = ["--problems=toy,digits", "--methods=equal,upgrad,modo"]
    argv = ["balancer_duel", "--smoke", *flags, f"--workdir={tmp_path}"]
    assert command.guarded(balancer_duel.main, argv) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["toy"]) == {"static, tuned", "equal", "upgrad", "modo"}
    assert len(scores["toy"]["equal"]) == 5
    assert 0 < np.mean(scores["digits"]["upgrad"]) < 1
    for name in ("scores.png", "toy.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "upgrad" in capsys.readouterr().out
    # Static weights are chosen among others, equal ones included.
    assert np.mean(scores["toy"]["static, tuned"]) <= np.mean(scores["toy"]["equal"])
    records = hw.sweeps.read(tmp_path)
    kept = [r["metrics"]["score"] for r in records if r["settings"]["problem"] == "toy"]
    assert kept == [score for rows in scores["toy"].values() for score in rows]
    words = [sys.executable, "-m", "experiments.studies.balancer_duel"]
    words += ["--methods=upgrd", f"--workdir={tmp_path / 'no'}"]
    wrong = subprocess.run(words, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --methods: expected some of aligned_mtl")
    assert not (tmp_path / "no").exists()


def test_every_method_takes_part():
    b = hw.balancers
    left_out = {"constant", "scheduled", "scalarization", "stch_set"}
    known = set(duel.methods()) - {"cr_mogm (mgda)"}
    assert known == set(b.FROM_VALUES + b.FROM_GRAMIAN + b.FROM_GRADIENTS) - left_out


@pytest.mark.optimized  # its tolerance is that of fused products
@pytest.mark.parametrize("name", ["quadratics", "toy", "vlmop2"])
def test_fronts_are_fronts(name):
    """No point of the front is better in both values than another one."""
    problem = duel.PROBLEMS[name](True)
    front = problem.front[np.argsort(problem.front[:, 0])]
    assert (np.diff(front[:, 1]) <= 1e-6 * np.ptp(front[:, 1])).all()


def test_interval_by_hand():
    mean, half = duel.interval([1.0, 3.0])  # t(0.975, 1) = 12.706
    assert mean == 2.0
    np.testing.assert_allclose(half, 12.706, rtol=1e-4)
    assert np.isnan(duel.interval([1.0, float("nan")])).all()
