"""The launcher: real workers that share a folder, a study that goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import headwise as hw
from experiments.harness import command
from experiments.harness import outcome
from experiments.harness import plan as plans
from experiments.harness import texts
from launch import local
from launch import plan as places
from launch import worker

ROOT = pathlib.Path(local.__file__).parents[1]
TINY = ROOT / "tests/launch/_tiny.py"
# Of this process nothing but the place of compiled programs, which workers share.
ENVIRONMENT = {"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"} | {
    name: value
    for name, value in os.environ.items()
    if name == "XLA_FLAGS" or name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
}


def begin(*arguments, module="launch.local"):
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def launch(*arguments, **options):
    """(exit code, what it said)."""
    process = begin(*arguments, **options)
    out, _ = process.communicate(timeout=100)
    return process.returncode, out


def planned(folder, *words):
    argv = ["local", f"--experiment={TINY}", f"--folder={folder}", *words]
    return plans.make(places.read(command.parse(argv, local.define, "")))


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    assert true()


def processes_of(folder):
    """The commands that run and name this folder."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in process.read_bytes():
                found.append(process)
        except OSError:  # gone
            continue
    return found


def by_hand(record):
    """Where gradient descent is: the seed's place is x and the distance from it."""
    a, b = record["weights"]["a"], record["weights"]["b"]
    x, place = record["metrics"]["x"], 0.0
    place = x + record["metrics"]["a"] ** 0.5
    lr, steps = record["settings"]["lr"], record["settings"]["steps"]
    return place * a / (a + b) * (1 - (1 - 2 * lr * (a + b)) ** steps)


@pytest.mark.slow
def test_an_older_study_goes_on_by_two_commands_at_once(tmp_path):
    """What the launcher of processes left counts; another grid joins it."""
    common = (f"--experiment={TINY}", f"--folder={tmp_path}")
    grid = ("--weights=a=1,b=0.5:1", "--seeds=0,1")
    plan = planned(tmp_path, *grid)
    first = plan.trials[0]
    settings = plan.recorded() | first.varied
    old = hw.sweeps.record(first.weights, 0, {"x": 12.5, "a": 1.0}, settings=settings)
    hw.sweeps.append(tmp_path, old)
    (tmp_path / "run.json").write_text(json.dumps(plan.config()))
    both = [
        begin(*common, *grid, "--workers=2"),
        begin(*common, *grid, "--sweep", module="experiments.main"),
    ]
    for process in both:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0, out
        assert "4 trials, 2 seeds of 30 steps" in out
        assert "b=0.5" in out  # the table
        assert "standard deviation over 2 seeds" in out
        assert "Traceback" not in out
    records = hw.sweeps.read(tmp_path)
    assert len(records) == 4
    assert outcome.undone(plan, records) == []
    new = [record for record in records if record["metrics"]["x"] != 12.5]
    assert len(new) == len(list((tmp_path / "done").iterdir())) == 3
    for record in new:
        np.testing.assert_allclose(record["metrics"]["x"], by_hand(record), rtol=1e-5)
    for file in ("table.txt", "front.png", "weights.png", "best/heads.png"):
        assert (tmp_path / file).stat().st_size > 100, file
    status = hw.sweeps.status(tmp_path)
    assert status["done"] >= 3
    assert {one["end"]["code"] for one in status["workers"]} == {0}
    key = next((tmp_path / "done").iterdir()).stem
    code, out = launch(*common, f"--verify={key[:9]}")
    assert code == 0, out
    assert f"trial {key}: " in out
    # Again: nothing is trained. And another grid joins the first.
    code, out = launch(*common, "--balancers=mgda", "--seeds=7")
    assert code == 0, out
    again = hw.sweeps.read(tmp_path)
    assert [record for record in again if record in records] == records
    (joined,) = [record for record in again if record not in records]
    assert (joined["weights"], joined["seed"]) == ({}, 7)
    assert joined["settings"]["balancer"] == "mgda"
    assert "balancer=mgda" in out
    assert len(list((tmp_path / "flags").iterdir())) == 2
    code, out = launch(*common, module="launch.worker")  # all texts, all done
    assert code == 2  # `--experiment` is in the texts
    code, out = launch(f"--folder={tmp_path}", module="launch.worker")
    assert code == 0, out
    assert hw.sweeps.read(tmp_path) == again


@pytest.mark.slow
def test_a_trial_that_diverges_is_a_result_and_settings_that_cannot_be_are_not(
    tmp_path,
):
    """A launcher builds no model: what a setting breaks a worker says."""
    common = (f"--experiment={TINY}", "--weights=a=1,b=1", f"--folder={tmp_path}")
    code, out = launch(*common, "--set=lr=0.1:1e30")
    assert code == 0, out
    ends = {r["settings"]["lr"]: r["finite"] for r in hw.sweeps.read(tmp_path)}
    assert ends == {0.1: True, 1e30: False}
    assert "1 diverged" in out
    assert "--retry tries them again" in out
    code, out = launch(*common, "--set=lr=1e30", "--seeds=5", "--stop_on_failure")
    assert code == 1, out
    code, out = launch(*common, "--set=power=0")
    assert code == 2
    assert "error: --set: power: expected 1 or more, got 0" in out
    assert len(hw.sweeps.read(tmp_path)) == 3


@pytest.mark.slow
def test_interrupts_of_real_commands(tmp_path, commands):
    """A run in Python, a sweep inside a compiled program, a study of workers."""
    long = "--steps=2000000000"
    grid = ["--weights=a=1,b=0.1:1:2", "--size=2"]
    flags = [f"--experiment={TINY}", long]
    started = {
        "run": begin(
            *flags, f"--workdir={tmp_path / 'run'}", module="experiments.main"
        ),
        "sweep": begin(
            *[*flags, *grid, "--sweep", f"--folder={tmp_path / 'sweep'}"],
            module="experiments.main",
        ),
        "study": begin(*flags, *grid, f"--folder={tmp_path / 'study'}", "--workers=2"),
        "killed": begin(*flags, *grid, f"--folder={tmp_path / 'killed'}"),
    }
    commands += started.values()

    def claims(name):
        return sorted(path.name for path in (tmp_path / name).glob("claims/*"))

    until(lambda: all(map(claims, ("sweep", "study", "killed"))))
    until(lambda: (tmp_path / "run/run.json").exists())
    time.sleep(2)
    started["run"].send_signal(signal.SIGTERM)
    started["sweep"].send_signal(signal.SIGTERM)
    started["study"].send_signal(signal.SIGINT)
    started["killed"].kill()
    for name, number in (("run", "TERM"), ("sweep", "TERM"), ("study", "INT")):
        out, _ = started[name].communicate(timeout=60)
        assert started[name].returncode == 75, out
        line = f"interrupted by SIG{number}: the same command goes on"
        assert line in out.splitlines()
        assert "Traceback" not in out
        if name != "run":
            assert "0 of 3 trials are done" in out
    started["killed"].communicate()
    until(lambda: processes_of(tmp_path) == [], 10)
    # What was left in order, or by someone who is dead for certain, is free at once.
    again = {
        name: begin(*flags, *grid, f"--folder={tmp_path / name}")
        for name in ("study", "killed")
    }
    commands += again.values()
    for name in again:
        until(lambda: any(c.endswith(".1") for c in claims(name)), 30)  # noqa: B023
    # A worker that is killed is started again.
    os.kill(newest(tmp_path / "killed", ".1")["pid"], signal.SIGKILL)
    until(lambda: any(c.endswith(".2") for c in claims("killed")), 30)
    for process in again.values():
        process.kill()
        process.communicate()


def newest(folder, end):
    """Who made the claim whose name ends so."""
    (claim,) = folder.glob(f"claims/*{end}")
    return json.loads(claim.read_text())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--experiment=brian", "--simplex=2"], "--experiment: expected one of"),
        (["--simplex=2"], "--experiment: expected a name or a file"),
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
            "--workers: expected 1 or more",
        ),
        (
            ["--experiment=seed_network", "--processes=1", "--workers=1"],
            "--processes is the former name of --workers",
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


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_worker_of_another_version_refuses(tmp_path, capsys):
    plan = planned(tmp_path, "--weights=a=1,b=1")
    plan.claim()
    name = texts.write(plan)
    assert texts.write(plan) == name
    path = tmp_path / f"flags/{name}.json"
    text = json.loads(path.read_text())
    text["code"] |= {"headwise": "0.0.1", "the sources of headwise": "1234"}
    path.write_text(json.dumps(text))
    before = files(tmp_path)
    for words in ([], [f"--study={name}"]):
        argv = ["worker", f"--folder={tmp_path}", *words]
        assert command.guarded(worker.main, argv) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"headwise was 0.0.1, is {hw.__version__}; the sources" in error
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--folder: expected the folder of a study, got none"),
        (["--folder=/no/such"], "--folder: /no/such holds no launched study"),
        (["--folder=/no/such", "--study=ab"], "is no text of a study"),
        (["--folder=/no/such", "--cpus=x"], "--cpus: expected CPUs of this machine"),
        (["--folder=/no/such", "--workers=0"], "--workers: expected 1 or more"),
    ],
)
def test_workers_without_work(words, said, capsys):
    assert command.guarded(worker.main, ["worker", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_former_name_says_the_new_one(tmp_path):
    folder = tmp_path / "study"
    code, out = launch("--seed=7", f"--folder={folder}", module="launch.sweep")
    assert code == 2
    lines = out.splitlines()
    assert "launch.local" in lines[0]
    assert "Did you mean: seeds" in lines[1]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"experiment": "brain"}, "belongs to another run: experiment was brain"),
        ({"launched": True, "smoke": True, "steps": 30}, "smoke was True, is False"),
        ({"launched": True, "smoke": False, "steps": 9}, "steps was 9, is 30"),
    ],
)
def test_folder_of_other_work_is_refused(before, said, tmp_path, capsys):
    owner = {"experiment": str(TINY)} | before
    (tmp_path / "run.json").write_text(json.dumps(owner))
    argv = ["local", f"--experiment={TINY}", f"--folder={tmp_path}"]
    assert local.command.guarded(local.main, argv) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_that_an_older_sweep_made_is_taken_up(tmp_path):
    plan = planned(tmp_path)
    version = plan.request(plan.trials[0]).config()["version"]
    older = {
        "experiment": str(TINY),
        "settings": {"lr": 0.1, "power": 2},
        "sweep": True,
        "smoke": False,
        "steps": 30,
        "version": version,
    }
    (tmp_path / "run.json").write_text(json.dumps(older))
    assert plan.claim() == tmp_path
    other = planned(tmp_path, "--set=lr=0.2")
    with pytest.raises(hw.training.WorkdirError, match="settings was"):
        other.claim()
