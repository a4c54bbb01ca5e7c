"""The benchmark of many heads runs small; times are not judged."""

import pytest

from tests.experiments.benchmarks import _runs


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    flags = ["--models=mlp", "--heads=12", "--seconds=0", "--copies=head_gramian"]
    flags += ["--forms=plain,head_gramian"]
    result, printed = _runs.result("many_heads", tmp_path, *flags)
    forms = ["plain", "head_gramian", "head_gramian, copies"]
    assert [row["form"] for row in result.rows] == forms
    for row in result.rows:
        assert row["form"] in printed
        assert row["seconds"] > 0
        assert row["trace_seconds"] > 0.01
        assert row["compile_seconds"] > 0.01  # from no cache
    text = _runs.page(tmp_path, "table: many_heads many_heads")
    assert "**mlp: Columns of one output" in text
    assert "| head_gramian, copies |" in text


def test_names_wrong_flags():
    wrong = _runs.command("many_heads", "--forms=plan")
    assert wrong.returncode != 0
    assert "--forms: expected some of plain" in wrong.stderr + wrong.stdout
