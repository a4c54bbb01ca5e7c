"""The benchmark of balancers runs small; times are not judged."""

import pytest

import headwise as hw
from tests.experiments.benchmarks import _runs


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    result, printed = _runs.result("balancers", tmp_path, "--heads=2", "--rounds=3")
    rows = {row["balancer"]: row for row in result.rows}
    # These two take arguments that have no default.
    assert set(rows) == set(hw.balancers.FROM_GRAMIAN) - {"krum", "pcd"}
    for name, row in rows.items():
        assert name in printed
        assert row["seconds"] > 0
        assert row["torchjd_seconds"] is None
        assert (row["quadprog_seconds"] is not None) == (name in ("upgrad", "dualproj"))
    text = _runs.page(tmp_path, "table: balancers balancers")
    assert f"| 2 | upgrad | {1e6 * rows['upgrad']['seconds']:.0f} us |" in text
    assert "TorchJD" not in text
