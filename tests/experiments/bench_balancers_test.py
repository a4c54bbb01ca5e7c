"""The benchmark of balancers runs small."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_bench():
    command = [sys.executable, "-m", "experiments.bench_balancers"]
    done = subprocess.run(
        [*command, "--heads=2", "--rounds=3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " upgrad " in line]
    assert float(rows[0][2]) > 0  # microseconds
    assert float(rows[0][-1]) > 0  # x quadprog
