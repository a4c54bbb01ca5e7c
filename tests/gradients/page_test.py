"""The page on head gradients runs as written; the benchmark runs small."""

import pathlib
import subprocess
import sys

import pytest

from tests import _pages

ROOT = pathlib.Path(__file__).parents[2]


def test_page_runs_as_written():
    namespace = _pages.run_page(ROOT / "docs" / "head_gradients.md")
    assert set(namespace["grads"]) == {"y1", "y2"}


@pytest.mark.slow
def test_benchmark_runs_and_names_wrong_flags():
    command = [sys.executable, "-m", "experiments.bench_gradients", "--seconds=0"]
    small = ["--models=mlp", "--heads=2", "--forms=plain backward,head_grads"]
    done = subprocess.run(
        [*command, *small], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (row,) = [line for line in done.stdout.splitlines() if "head_grads" in line]
    assert float(row.split()[4]) > 0  # operations
    assert abs(float(row.split()[5]) - 1) < 0.05  # over the floor
    wrong = subprocess.run(
        [*command, "--models=mlq"], cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode != 0
    assert "expected some of" in wrong.stderr + wrong.stdout
