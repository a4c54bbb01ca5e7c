"""What studies of programs take of the memory: refused before anything is written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._cohort import _memory
from tests.sweeps import _studies

PROGRAM = _studies.program()


def test_one_trial_beyond_memory_is_told_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "needed", lambda cohort: 100 * cohort.places)
    monkeypatch.setattr(_memory, "free", lambda device=None: 50)
    given = {"steps": 120, "mode": "scan", "folder": tmp_path / "new"}
    for call in (functools.partial(hw.sweeps.check, here=True), hw.sweeps.run):
        with pytest.raises(ValueError, match=r"one trial .* 100 B, and 50 B are free"):
            call(PROGRAM, _studies.DESIGN, (0, 1), **given)
        assert not given["folder"].exists()
    hw.sweeps.check(PROGRAM, _studies.DESIGN, (0, 1), **given)  # it is for elsewhere


def test_memory_is_shared_by_the_workers_of_this_machine(monkeypatch):
    """With 100 bytes a trial, 500 hold five, of two workers here two each."""
    monkeypatch.setattr(_memory, "needed", lambda cohort: 100 * cohort.places)
    monkeypatch.setattr(_memory, "free", lambda device=None: 500)
    given = {"steps": 120, "mode": "scan", "size": 3, "workers": 4}
    for here, says in ((None, "125 B are free: 1"), (2, "250 B are free: 2")):
        with pytest.raises(ValueError, match=f"{says} is the largest size"):
            hw.sweeps.check(
                PROGRAM, _studies.DESIGN, (0, 1), workers_here=here, **given
            )
    hw.sweeps.check(PROGRAM, _studies.DESIGN, (0, 1), workers_here=1, **given)


@pytest.mark.parametrize("mode", ["scan", "auto"])
def test_no_step_is_run_of_what_will_run_elsewhere(mode):
    """As a launcher does; where it will run, steps are measured."""
    ran = []

    def step(x, t):
        of_time = jax.ShapeDtypeStruct((), jnp.float32)
        told = jax.pure_callback(
            lambda t: np.float32(ran.append(t) or 0),
            of_time,
            t,
            vmap_method="sequential",
        )
        return x + told, {}

    program = hw.sweeps.Program(
        lambda trial: trial["weights"]["a"], step, lambda x: {"x": x}
    )
    given = {"steps": 3, "mode": mode, "size": 2}
    hw.sweeps.check(program, {"a": [1.0, 2.0]}, **given)
    assert ran == []
    hw.sweeps.check(program, {"a": [1.0, 2.0]}, here=True, **given)
    jax.effects_barrier()
    assert ran
