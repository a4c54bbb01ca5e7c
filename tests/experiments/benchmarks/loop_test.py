"""The benchmark of loops runs small; times are not judged."""

import pytest

from tests.experiments.benchmarks import _runs


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    flags = ["--models=mlp", "--steps=20", "--rounds=1"]
    result, printed = _runs.result("loop", tmp_path, *flags)
    forms = ["scan", "loop", "fit", "fit, NumPy"]
    assert [row["form"] for row in result.rows] == forms
    for row in result.rows:
        assert row["form"] in printed
        assert row["seconds"] > 0
    text = _runs.page(tmp_path, "table: loop loop")
    assert "| `mlp`: Two layers of 64" in text
    assert "| fit, NumPy |" in text
