"""The launcher: real processes, a folder a trial, a study that goes on."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

import headwise as hw
from launch import local
from launch import study as studies

ROOT = pathlib.Path(local.__file__).parents[1]
# Of this process nothing but the place of compiled programs, which trials share.
ENVIRONMENT = {"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"} | {
    name: value
    for name, value in os.environ.items()
    if name == "XLA_FLAGS" or name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
}


def launch(*arguments, module="launch.local"):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_study_of_processes_and_again(tmp_path):
    common = ("--experiment=seed_network", "--smoke", f"--folder={tmp_path}")
    arguments = (*common, "--weights=loss1=1,loss2=0.1:1", "--seeds=0,1")
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    assert "loss2=0.1" in done.stdout
    assert "loss1=1" in done.stdout
    assert "backend" not in done.stderr  # a log line of JAX
    trials = sorted((tmp_path / "trials").iterdir())
    assert [re.sub("_[0-9a-f]{8}$", "", path.name) for path in trials] == [
        f"loss1-1_loss2-{w}_seed-{seed}" for w in ("0.1", "1") for seed in (0, 1)
    ]
    logs = sorted(path.stem for path in (tmp_path / "logs").iterdir())
    assert logs == [path.name for path in trials]
    records = hw.sweeps.read(tmp_path)
    assert all(record["finite"] for record in records)
    assert {r["settings"]["balancer"] for r in records} == {"constant"}
    # Again with one trial lost and one marked: only the lost one is trained.
    (marked,) = hw.sweeps.read(trials[0])
    marked["metrics"]["loss1"] = 1234.5
    hw.sweeps.append(trials[0], marked)
    (lost,) = hw.sweeps.read(trials[3])
    (trials[3] / "trials.jsonl").unlink()
    assert launch(*arguments).returncode == 0
    again = {hw.sweeps.identity(r): r for r in hw.sweeps.read(tmp_path)}
    assert len(again) == 4
    assert again[hw.sweeps.identity(marked)]["metrics"]["loss1"] == 1234.5
    assert again[hw.sweeps.identity(lost)]["metrics"] == lost["metrics"]
    # Another grid in the same folder joins the first.
    done = launch(*common, "--balancers=mgda", "--seeds=7")
    assert done.returncode == 0, done.stderr
    both = {hw.sweeps.identity(r): r for r in hw.sweeps.read(tmp_path)}
    assert len(both) == 5
    assert again.items() <= both.items()
    (new,) = [both[name] for name in both.keys() - again.keys()]
    assert (new["weights"], new["seed"]) == ({}, 7)
    assert new["settings"]["balancer"] == "mgda"
    assert "balancer=mgda" in done.stdout
    assert "balancer=constant loss1=1 loss2=0.1" in done.stdout


@pytest.mark.slow
def test_a_trial_that_diverges_is_a_result_and_one_that_dies_is_not(tmp_path):
    """A launcher builds no model: that a width cannot be shows in the process."""
    arguments = (
        "--experiment=seed_network",
        "--smoke",
        "--weights=loss1=1,loss2=1",
        f"--folder={tmp_path}",
    )
    done = launch(*arguments, "--set=lr=1e-2:1e30")
    assert done.returncode == 0, done.stderr
    ends = {r["settings"]["lr"]: r["finite"] for r in hw.sweeps.read(tmp_path)}
    assert ends == {1e-2: True, 1e30: False}
    assert "1 diverged" in done.stdout
    assert "is not finite" in done.stderr
    done = launch(*arguments, "--set=width=-1")
    assert done.returncode == 1
    assert "error: 1 of 1 trials failed" in done.stderr
    assert len(hw.sweeps.read(tmp_path)) == 2


@pytest.mark.slow
def test_interrupts_of_real_commands(tmp_path, commands):
    """A run in Python, a sweep inside a compiled program, a study of processes."""
    common = [sys.executable, "-m"]
    flags = ["--experiment=seed_network", "--steps=100000000"]
    grid = ["--weights=loss1=1,loss2=0.1:1:2", f"--folder={tmp_path / 'study'}"]
    main = [*common, "experiments.main", *flags]
    lines = {
        "run": [*main, f"--workdir={tmp_path / 'run'}"],
        "sweep": [*main, "--sweep", f"--workdir={tmp_path / 'sweep'}"],
        "study": [*common, "launch.local", *flags, *grid],
    }
    started = {
        name: subprocess.Popen(
            words,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for name, words in lines.items()
    }
    commands += started.values()

    def begun():
        told = [tmp_path / "run", *(tmp_path / "study/trials").glob("*")]
        runs = sum((folder / "run.json").exists() for folder in told)
        return runs == 3 and (tmp_path / "sweep/.trials.lock").exists()

    end = time.monotonic() + 120
    while not begun() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)
    started["run"].send_signal(signal.SIGTERM)
    started["sweep"].send_signal(signal.SIGTERM)
    started["study"].send_signal(signal.SIGINT)
    for name, number in (("run", "TERM"), ("sweep", "TERM"), ("study", "INT")):
        out, _ = started[name].communicate(timeout=60)
        assert started[name].returncode == 75, out
        line = f"interrupted by SIG{number}: the same command goes on"
        assert line in out.splitlines()
        assert "Traceback" not in out
    assert "0 of 3 trials are done" in out
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        assert str(tmp_path).encode() not in process.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--experiment=brian", "--simplex=2"], "--experiment: expected one of"),
        (["--simplex=2"], "--experiment: expected a name or a file"),
        (["--experiment=seed_network"], "one of --weights and --simplex"),
        (
            ["--experiment=seed_network", "--simplex=2", "--seeds=a"],
            "--seeds: expected numbers, got a",
        ),
        (
            ["--experiment=seed_network", "--weights=loss1=1"],
            "--weights: expected the heads loss1, loss2; got loss1",
        ),
        (
            ["--experiment=seed_network", "--balancers=mgda,stch:smoothness=0"],
            "--balancer=stch: smoothness: expected",
        ),
        (
            ["--experiment=seed_network", "--balancer=mgda", "--seed=7"],
            "Unknown command line flag",
        ),
        (
            ["--experiment=seed_network", "--simplex=2", "--processes=0"],
            "--processes: expected 1 or more",
        ),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(arguments, text, tmp_path, capsys):
    folder = tmp_path / "study"
    argv = ["local", *arguments, f"--folder={folder}"]
    assert local.command.guarded(local.main, argv) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_what_is_run_again(tmp_path):
    ends = {"new": None, "whole": {"m": 1.0}, "diverged": {"m": float("nan")}}
    jobs = [studies.Job(name, [], tmp_path / name) for name in ends]
    for name, metrics in ends.items():
        if metrics is not None:
            hw.sweeps.append(tmp_path / name, hw.sweeps.record({"a": 1}, 0, metrics))
    words = ["--experiment=seed_network", "--balancers=mgda"]
    for more, expected in (([], ["new"]), (["--retry"], ["new", "diverged"])):
        given = local.command.parse(["local", *words, *more], local.define, "")
        found = studies.to_run(local.plan.read(given), jobs)
        assert [job.name for job in found] == expected


def test_the_former_name_says_the_new_one(tmp_path):
    folder = tmp_path / "study"
    done = launch("--seed=7", f"--folder={folder}", module="launch.sweep")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "launch.local" in lines[0]
    assert "Did you mean: seeds" in lines[1]
    assert not folder.exists()


def test_folder_of_other_work_is_refused(tmp_path, capsys):
    (tmp_path / "run.json").write_text(json.dumps({"experiment": "brain"}))
    argv = ["local", "--experiment=seed_network", "--simplex=2", f"--folder={tmp_path}"]
    assert local.command.guarded(local.main, argv) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
