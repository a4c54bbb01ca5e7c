"""`srun python -m launch.multihost` on a real cluster: JAX finds who is there."""

import sys

import pytest

from tests.launch import _commands
from tests.launch import _slurm
from tests.launch import multihost_test


@pytest.mark.slow
@pytest.mark.skipif(_slurm.lacks() is not None, reason=str(_slurm.lacks()))
def test_srun(tmp_path):
    """Two nodes train one model; workers of a study would know that they are two."""
    with _slurm.cluster() as one:
        # The names of these nodes lead nowhere: JAX is told where process 0 is.
        where = f"127.0.0.1:{_slurm.free_ports(1)[0]}"
        one.env |= multihost_test.ENVIRONMENT | {"JAX_COORDINATOR_ADDRESS": where}
        one.env["PATH"] = _slurm.PATH
        flags = ["-m", "launch.multihost", multihost_test.RUN[0]]
        step = ["srun", "-N2", "-n2", f"--chdir={_commands.ROOT}", sys.executable]
        mesh = ["--mesh=data:2", "--balancer=mgda", f"--workdir={tmp_path / 'run'}"]
        out = one.ask(*step, *flags, *mesh)
        assert "process 0 of 2" in out, out
        assert "process 1 of 2" in out
        assert set(multihost_test.metrics(tmp_path / "run")) == {"a", "b"}
        out = one.ask(*step, *flags, "--dry_run", f"--folder={tmp_path / 'study'}")
        words = [line.split() for line in out.splitlines() if "launch.worker" in line]
        shares = ["--workers=2", "--workers_here=1"]
        assert [line[-2:] for line in words] == [shares] * 2
