"""The launcher: real processes, a folder a trial, a study that goes on."""

import json
import pathlib
import subprocess
import sys

import pytest

import headwise as hw
from experiments import main as one
from launch import sweep

ROOT = pathlib.Path(sweep.__file__).parents[1]


def launch(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "launch.sweep", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_study_of_processes_and_again(tmp_path):
    arguments = (
        "--experiment=seed_network",
        "--smoke",
        "--weights=loss1=1,loss2=0.1:1",
        "--seeds=0,1",
        f"--folder={tmp_path}",
    )
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    assert "loss2=0.1" in done.stdout
    assert "(loss1=1 throughout)" in done.stdout
    trials = sorted(path.name for path in (tmp_path / "trials").iterdir())
    assert trials == [
        f"loss1-1_loss2-{w}_seed-{seed}" for w in ("0.1", "1") for seed in (0, 1)
    ]
    records = hw.sweeps.read_trials(tmp_path)
    assert all(record["finite"] for record in records)
    # Again with one trial lost and one marked: only the lost one is trained.
    marked = tmp_path / "trials" / trials[0] / "result.json"
    marked.write_text(json.dumps({"loss1": 1234.5, "loss2": 0.0}))
    (tmp_path / "trials" / trials[3] / "result.json").unlink()
    assert launch(*arguments).returncode == 0
    again = hw.sweeps.read_trials(tmp_path)
    assert again[0]["metrics"]["loss1"] == 1234.5
    assert again[3]["metrics"] == records[3]["metrics"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--experiment=brian", "--simplex=2"], "--experiment: expected one of"),
        (["--experiment=seed_network"], "one of --weights and --simplex"),
        (["--experiment=seed_network", "--simplex=0"], "--simplex: expected 1 or more"),
        (
            ["--experiment=seed_network", "--simplex=2", "--seeds=a"],
            "--seeds: expected numbers, got a",
        ),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(arguments, text, tmp_path):
    folder = tmp_path / "study"
    done = launch(*arguments, f"--folder={folder}")
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]
    assert not folder.exists()


def test_grid_text():
    levels = sweep.parse_grid("left=1,right=0.1:0.3:1", ["right", "left"])
    assert levels == {"left": [1.0], "right": [0.1, 0.3, 1.0]}
    for text in ("left=1", "left=1,right=", "left=1,right=a:b", "left"):
        with pytest.raises(one.UsageError, match="--weights"):
            sweep.parse_grid(text, ["left", "right"])


def test_trial_names_are_plain_file_names():
    name = sweep.trial_name({"b/../x": 0.25, "a": 1.0}, 3)
    assert name == "a-1_b..x-0.25_seed-3"
