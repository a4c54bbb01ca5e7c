"""What studies of programs take of the memory: refused before anything is written."""

import functools

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
