"""The benchmark of losses runs small; times are not judged."""

import pytest

from experiments.benchmarks import results
from tests.experiments.benchmarks import _runs


@pytest.mark.slow
def test_runs_and_leaves_a_result(tmp_path):
    flags = ["--losses=ce,dice", "--shape=1,4,4,4", "--channels=2,3", "--rounds=2"]
    result, printed = _runs.result("losses", tmp_path, *flags)
    cases = [(row["classes"], row["loss"], row["way"]) for row in result.rows]
    ways = [("ce", "headwise"), ("ce", "plain"), ("ce", "optax")]
    ways += [("dice", "headwise"), ("dice", "plain")]
    assert cases == [(classes, *way) for classes in (2, 3) for way in ways]
    assert all(row["seconds"] > 0 and row["floor_seconds"] > 0 for row in result.rows)
    assert result.machine["cores"] == results.cores()
    assert "optax" in printed
    text = _runs.page(tmp_path, "table: losses losses", "runs: losses")
    assert text.count("| `cross_entropy` |") == 2
    assert "--rounds=2 --json=experiments/benchmarks/results/losses.json" in text
    assert f"jax {result.versions['jax']}" in text


def test_names_wrong_flags():
    wrong = _runs.command("losses", "--losses=dise")
    assert wrong.returncode != 0
    assert "--losses: expected some of dice" in wrong.stderr + wrong.stdout
