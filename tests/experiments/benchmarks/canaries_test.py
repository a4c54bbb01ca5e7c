"""The canaries of tricks played on compilers, on programs that show nothing."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from experiments.benchmarks import canaries
from experiments.benchmarks import harness
from headwise import _xla

pytestmark = pytest.mark.optimized


def rows_of_the_table():
    """{trick: what decides it}, of the docstring of `_xla`."""
    table = _xla.__doc__.split("=\n")[2]
    rows = (re.match(r"(\w.{23}) (.{32}) (\S+)", row) for row in table.splitlines())
    return {row[1].strip(): row[3].strip("`") for row in rows if row}


def test_every_trick_of_the_table_has_a_canary():
    table = rows_of_the_table()
    assert list(table) == list(canaries.CANARIES)
    for trick, decision in table.items():
        canary = canaries.CANARIES[trick]
        if canary.plain is None:
            assert list(canary.without) == [decision], trick
            assert hasattr(_xla, decision)


@pytest.mark.parametrize("trick", canaries.CANARIES)
def test_with_and_without_a_trick_the_same_is_computed(trick):
    canary = canaries.CANARIES[trick]
    results = [
        canaries._compiled(canary, played, tiny=True).call() for played in (True, False)
    ]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        # Sums of up to 2^17 float32 products in another order.
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5)


def test_haste_makes_no_program_better_than_all_are_wanted():
    assert _xla.once_options() == {"xla_backend_optimization_level": 1}
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert _xla.once_options() == {}
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_the_decisions_are_put_back():
    before = dict(vars(_xla))

    def fails():
        with harness.replaced({"SWEPT_HEADS": 0}):
            assert _xla.SWEPT_HEADS == 0
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert dict(vars(_xla)) == before


def test_a_trick_that_no_longer_helps_is_named(capsys, monkeypatch):
    lame = canaries.CANARIES["elimination"]._replace(without={}, least=1e9)
    monkeypatch.setitem(canaries.CANARIES, "elimination", lame)
    with flagsaver.flagsaver(tiny=True, calls=1, tricks=["elimination"]):
        with pytest.raises(SystemExit) as stopped:
            canaries.main([])
        assert stopped.value.code == 1
        assert "no longer helps: elimination" in capsys.readouterr().out
        with flagsaver.flagsaver(judge=False):
            canaries.main([])
        row = re.compile(r"^elimination +[\d.]+ +[\d.]+ +ms", re.MULTILINE)
        assert row.search(capsys.readouterr().out)


def test_unknown_tricks_are_named():
    chosen = flagsaver.flagsaver(tricks=["magic"])
    with chosen, pytest.raises(app.UsageError, match="magic"):
        canaries.main([])


def test_command_line():
    command = [sys.executable, "-m", "experiments.benchmarks.canaries", "--tiny"]
    done = subprocess.run(
        [*command, "--calls=1", "--nojudge", "--tricks=elimination"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "elimination" in done.stdout
