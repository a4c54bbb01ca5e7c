"""What `import headwise` loads, in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["scipy.stats", "matplotlib", "orbax"])
def test_slow_modules_are_not_loaded(module):
    text = f"import sys, headwise; print({module!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
