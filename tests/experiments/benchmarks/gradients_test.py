"""The benchmark of head gradients runs small; times are not judged."""

import pytest

from tests.experiments.benchmarks import _runs


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    forms = ("plain backward", "jacrev", "head_grads", "sequential", "batched")
    forms += ("step static", "step mgda", "step contributions")
    flags = ["--models=mlp", "--heads=2", "--seconds=0", f"--forms={','.join(forms)}"]
    result, printed = _runs.result("gradients", tmp_path, *flags)
    rows = {row["form"]: row for row in result.rows}
    assert list(rows) == list(forms)
    for form, row in rows.items():
        assert form in printed
        assert row["seconds"] > 0
        assert row["compile_seconds"] > 0.01  # from no cache
        assert row["temporary_bytes"] > 0
    head_grads = rows["head_grads"]
    gap = head_grads["operations"] / head_grads["floor_operations"]
    assert abs(gap - 1) < 0.05
    views = ("gradients", "jacrev", "methods", "steps")
    text = _runs.page(tmp_path, *[f"table: {view} gradients" for view in views])
    assert "**mlp: Four layers of 512" in text
    assert f"| head_grads | {1e3 * head_grads['seconds']:.2f} ms |" in text
    assert text.count("| `mlp`: Four layers of 512") == 3


def test_names_wrong_flags():
    wrong = _runs.command("gradients", "--models=mlq")
    assert wrong.returncode != 0
    assert "--models: expected some of mlp" in wrong.stderr + wrong.stdout
