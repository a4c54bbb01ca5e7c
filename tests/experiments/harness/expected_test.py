"""The check of expected results: bands that hold, bands that are left, commands."""

import json

import pytest

from experiments import main
from experiments.harness import command
from experiments.harness import expected
from experiments.harness import find
from experiments.harness import plan as plans
from experiments.harness import request as requests
from experiments.harness import study as studies
from tests.launch import _tiny


def entries():
    return json.loads(expected.BANDS.read_text())


def test_every_entry_is_a_command_with_bands_of_its_metrics():
    for entry in entries():
        argv = ["main", *entry["flags"]]
        sweep = command.asks(argv, "sweep")
        if sweep:
            given = command.parse(argv, main.define, None)
            spec = plans.make(studies.read(given)).spec
        else:
            spec = requests.read(argv).spec
        assert entry["found"]
        assert entry["bands"]
        for name, (low, high) in entry["bands"].items():
            metric, _, weighting = name.partition(", weighting ")
            assert metric in spec.metrics
            assert low < high
            assert bool(weighting) == sweep


def test_every_experiment_has_an_entry():
    names = {entry["flags"][0].removeprefix("--experiment=") for entry in entries()}
    wrong = names ^ set(find.names())
    assert not wrong, f"entries of experiments/expected.json: {sorted(wrong)}"


@pytest.mark.slow
def test_bands_are_held_or_left(tmp_path, capfd):
    """Also of what comes after a command that fails; of one run a recipe shows it."""
    run = [f"--experiment={_tiny.__file__}"]
    file = tmp_path / "bands.json"
    bands = {
        "x, weighting 1": [0.0, 10.0],
        "a, weighting 1": [-2.0, -1.0],
        "a, weighting 2": [0.0, 10.0],
    }
    entries = [([*run, "--steps=0"], {"x": [0.0, 10.0]}), ([*run, "--sweep"], bands)]
    file.write_text(
        json.dumps([{"flags": f, "bands": b, "found": "-"} for f, b in entries])
    )
    assert command.guarded(expected.main, ["expected", f"--file={file}"]) == 1
    out = capfd.readouterr().out
    assert "failed: error: --steps: expected 1 or more" in out
    assert "in [-2, -1]: OUTSIDE" in out
    assert out.count("in [0, 10]: ok") == 2


def test_unknown_experiment_is_wrong_usage(capsys):
    assert command.guarded(expected.main, ["expected", "--only=brian"]) == 2
    assert "--only: expected some of" in capsys.readouterr().err
