"""What `import headwise` loads, in a process of its own."""

import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def loaded():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, headwise; print(*sys.modules)"],
        env={"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["scipy.stats", "matplotlib", "orbax", "flax"])
def test_slow_modules_are_not_loaded(module, loaded):
    assert "headwise.training" in loaded
    assert module not in loaded
