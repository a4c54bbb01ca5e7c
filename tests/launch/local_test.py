"""The launcher: real workers that share a folder, a study that goes on."""

import json
import os
import signal

import numpy as np
import pytest

import headwise as hw
from experiments.harness import outcome
from launch import local
from launch import worker
from tests.launch import _commands
from tests.launch import _line
from tests.launch._commands import begin
from tests.launch._commands import here
from tests.launch._commands import until

ROOT, TINY = _commands.ROOT, _commands.TINY


def planned(*words):
    return _commands.planned(f"--experiment={TINY}", *words)


def by_hand(record):
    """Where gradient descent is: the seed's place is x and the distance from it."""
    a, b = record["weights"]["a"], record["weights"]["b"]
    x, place = record["metrics"]["x"], 0.0
    place = x + record["metrics"]["a"] ** 0.5
    lr, steps = record["settings"]["lr"], record["settings"]["steps"]
    return place * a / (a + b) * (1 - (1 - 2 * lr * (a + b)) ** steps)


@pytest.mark.slow
def test_an_older_study_goes_on_by_three_kinds_of_commands_at_once(
    tmp_path, capsys, commands
):
    """What the launcher of processes left counts; another grid joins it.

    Local workers, a sweep in its own process and a bare worker share the trials.
    """
    held, tmp_path = tmp_path / "go", tmp_path / "study"
    common = (f"--experiment={_commands.HELD}", f"--set=until={held}")
    common += (f"--folder={tmp_path}",)
    grid = ("--weights=a=1,b=0.5:1", "--seeds=0:4")
    slowly = ("--mode=scan", "--size=1")
    plan = planned(*common, *grid, *slowly)
    first = plan.trials[0]
    settings = plan.recorded() | first.varied
    old = hw.sweeps.record(first.weights, 0, {"x": 12.5, "a": 1.0}, settings=settings)
    tmp_path.mkdir()
    hw.sweeps.append(tmp_path, old)
    (tmp_path / "run.json").write_text(json.dumps(plan.config()))
    both = [begin(*common, *grid, *slowly, "--workers=2")]
    commands += both
    until(lambda: list(tmp_path.glob("launches/*.json")))  # its workers begin now, too
    both.append(begin(*common, *grid, *slowly, "--sweep", module="experiments.main"))
    bare = begin(f"--folder={tmp_path}", module="launch.worker")
    commands += [both[-1], bare]
    until(lambda: len(_commands.claims(tmp_path)) == 4)
    held.touch()
    for process in both:
        code, out = _commands.end(process)
        assert code == 0, out
        assert "8 trials, 4 seeds of 900 steps" in out
        assert "b=0.5" in out  # the table
        assert "standard deviation over 4 seeds" in out
        assert "Traceback" not in out
    code, out = _commands.end(bare)
    assert code == 0, out
    records = hw.sweeps.read(tmp_path)
    assert len(records) == 8
    assert outcome.undone(plan, records) == []
    new = [record for record in records if record["metrics"]["x"] != 12.5]
    assert len(new) == len(list((tmp_path / "done").iterdir())) == 7
    for record in new:
        np.testing.assert_allclose(record["metrics"]["x"], by_hand(record), rtol=1e-5)
    apart = *common[:2], f"--folder={tmp_path / 'alone'}", *grid, *slowly
    alone = _commands.alone(f"--experiment={TINY}", *apart)
    results = {hw.sweeps.identity(one): one["metrics"] for one in alone}
    for one in new:
        same = results[hw.sweeps.identity(one)]
        assert one["metrics"] == pytest.approx(same, rel=1e-6)
    status = hw.sweeps.status(tmp_path)
    assert len(status["workers"]) == 4
    assert {one["end"]["code"] for one in status["workers"]} == {0}
    assert len({one["worker"] for one in status["cohorts"]}) == 4  # they did share
    assert {one["epoch"] for one in status["cohorts"]} == {0}  # nobody lost anything
    for file in ("table.txt", "front.png", "weights.png", "best/heads.png"):
        assert (tmp_path / file).stat().st_size > 100, file
    key = next((tmp_path / "done").iterdir()).stem
    code, out, err = here(capsys, local, *common, f"--verify={key[:9]}")
    assert code == 0, err
    assert f"trial {key} (a=1 b=" in out
    # Again: nothing is trained. And another grid joins the first.
    code, out, err = here(capsys, local, *common, "--balancers=mgda", "--seeds=7")
    assert code == 0, err
    again = hw.sweeps.read(tmp_path)
    assert [record for record in again if record in records] == records
    (joined,) = [record for record in again if record not in records]
    assert (joined["weights"], joined["seed"]) == ({}, 7)
    assert joined["settings"]["balancer"] == "mgda"
    assert "balancer=mgda" in out
    assert len(list((tmp_path / "flags").iterdir())) == 2
    code, *_ = here(capsys, worker, *common)
    assert code == 2  # `--experiment` is in the texts
    code, out, err = here(capsys, worker, common[-1])  # all texts, all done
    assert code == 0, err
    assert hw.sweeps.read(tmp_path) == again


@pytest.mark.slow
def test_a_trial_that_diverges_is_a_result_and_settings_that_cannot_be_are_not(
    tmp_path, capfd
):
    """A launcher builds no model: what a setting breaks a worker says."""
    common = (f"--experiment={TINY}", "--weights=a=1,b=1", f"--folder={tmp_path}")
    code, out, err = here(capfd, local, *common, "--set=lr=0.1:1e30")
    assert code == 0, err
    ends = {r["settings"]["lr"]: r["finite"] for r in hw.sweeps.read(tmp_path)}
    assert ends == {0.1: True, 1e30: False}
    assert "1 diverged" in out
    assert "--retry tries them again" in err
    again = "--set=lr=1e30", "--seeds=5", "--stop_on_failure"
    code, out, err = here(capfd, local, *common, *again)
    assert code == 1, out
    code, out, err = here(capfd, local, *common, "--set=power=0")
    assert code == 2
    assert "error: --set: power: expected 1 or more, got 0" in out + err
    assert len(hw.sweeps.read(tmp_path)) == 3


@pytest.mark.slow
def test_interrupts_of_real_commands(tmp_path, commands):
    """A run in Python, a sweep inside a compiled program, a study of workers."""
    grid = ["--weights=a=1,b=0.1:1:2", "--size=2", "--mode=scan"]
    # The trials wait in a step, the run in an evaluation, until it has got its signal.
    run = [f"--experiment={_line.__file__}", f"--workdir={tmp_path / 'run'}"]
    run.append(f"--set=until={tmp_path / 'line.go'}")
    flags = [f"--experiment={_commands.HELD}", f"--set=until={tmp_path / 'go'}"]
    started = {
        "run": begin(*run, module="experiments.main"),
        "sweep": begin(
            *[*flags, *grid, "--sweep", f"--folder={tmp_path / 'sweep'}"],
            module="experiments.main",
        ),
        "study": begin(*flags, *grid, f"--folder={tmp_path / 'study'}", "--workers=2"),
        "killed": begin(*flags, *grid, f"--folder={tmp_path / 'killed'}"),
        "gone": begin(*flags, *grid, f"--folder={tmp_path / 'gone'}"),
    }
    commands += started.values()
    until(lambda: _commands.trains(tmp_path / "gone"))
    (tmp_path / "gone").rename(tmp_path / "elsewhere")  # a disk that goes away
    for name in ("sweep", "study", "killed"):
        until(lambda: _commands.trains(tmp_path / name))  # noqa: B023
    until(lambda: list(tmp_path.glob("line.*")))
    started["run"].send_signal(signal.SIGTERM)
    started["sweep"].send_signal(signal.SIGTERM)
    started["study"].send_signal(signal.SIGINT)
    started["killed"].kill()
    for name, number in (("run", "TERM"), ("sweep", "TERM"), ("study", "INT")):
        code, out = _commands.end(started[name])
        assert code == 75, out
        line = f"interrupted by SIG{number}: the same command goes on"
        assert line in out.splitlines()
        assert "Traceback" not in out
        if name != "run":
            assert "0 of 3 trials are done" in out
    started["killed"].communicate()
    code, out = _commands.end(started["gone"])
    assert code == 1, out
    assert f"worker 0: exit code 1; {tmp_path / 'gone'}/logs/" in out
    assert "Traceback" not in out
    assert not (tmp_path / "gone").exists()  # nothing is made in its place
    until(lambda: not _commands.processes_of(tmp_path))
    # What was left in order, or by someone who is dead for certain, is free at once.
    again = {
        "study": begin(f"--folder={tmp_path / 'study'}", module="launch.worker"),
        "killed": begin(*flags, *grid, f"--folder={tmp_path / 'killed'}"),
    }
    commands += again.values()

    def claimed(name, end):
        return list((tmp_path / name).glob(f"claims/*{end}"))

    for name in again:
        until(lambda: claimed(name, ".1"))  # noqa: B023
    # A worker that is killed is started again.
    (claim,) = claimed("killed", ".1")
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    until(lambda: claimed("killed", ".2"))
    for process in again.values():
        process.kill()
        process.communicate()


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


def test_the_former_name_says_the_new_one(tmp_path):
    folder = tmp_path / "study"
    code, out = _commands.run("--seed=7", f"--folder={folder}", module="launch.sweep")
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
    plan = planned(f"--folder={tmp_path}")
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
    other = planned(f"--folder={tmp_path}", "--set=lr=0.2")
    with pytest.raises(hw.training.WorkdirError, match="settings was"):
        other.claim()
