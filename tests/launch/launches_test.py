"""What all launchers do before they start workers, and what a dry run says."""

import json
import pathlib
import shlex
import subprocess

import pytest

from experiments.harness import command
from launch import launches
from launch import local
from launch import plan as places
from tests.launch import _tiny


def study(folder, *words):
    argv = ["local", f"--experiment={_tiny.__file__}", f"--folder={folder}", *words]
    return places.read(command.parse(argv, local.define, ""))


def test_a_launch_signs_the_folder(tmp_path, capsys):
    given = study(tmp_path / "study", "--seeds=0:2")
    first, second = (launches.begin(given, name) for name in ("slurm", "ray"))
    assert first.name == second.name
    assert first.token != second.token
    read = launches.read(tmp_path / "study")
    assert sorted(one["engine"] for one in read) == ["ray", "slurm"]
    assert {one["token"] for one in read} == {first.token, second.token}
    for one in read:
        assert one["study"] == first.name
        assert {"command", "directory", "host", "user", "time"} < set(one)
    assert launches.is_there(tmp_path / "study", first.token)
    assert not launches.is_there(tmp_path / "study", "ab")
    assert "4 trials, 2 seeds of 30 steps" in capsys.readouterr().out


def test_the_flags_of_a_worker(tmp_path, monkeypatch):
    """A folder by its whole name: the worker may begin elsewhere."""
    monkeypatch.chdir(tmp_path)
    given = study("mine")._replace(retry=True, stop_on_failure=True)
    launch = launches.begin(given, "x", dry_run=True)
    where = [f"--folder={tmp_path}/mine", f"--study={launch.name}", "--launch=TOKEN"]
    assert launches.worker(launch, workers=2) == [
        *where,
        "--workers=2",
        "--retry",
        "--stop_on_failure",
    ]
    found = launches.worker(launch, workers=2, devices=4, cohorts=1, cpus=(0, 1))
    assert found[3:7] == ["--workers=2", "--devices=4", "--cohorts=1", "--cpus=0,1"]
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("gpus", [[], ["0", "1"]])
def test_a_dry_run_writes_nothing_and_prints_what_can_be_pasted(
    gpus, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(local, "gpus_here", lambda: gpus)
    monkeypatch.setattr(local, "cpus_here", lambda: [0, 1])
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a study"
    argv = ["local", f"--experiment={_tiny.__file__}", f"--folder={folder}"]
    argv += ["--workers=2", "--dry_run"]
    assert command.guarded(local.main, argv) == 0
    assert not folder.exists()
    out = capsys.readouterr().out
    _, text = out.split("# ", 1)
    name, rest = text.split("\n", 1)
    assert pathlib.Path(name).parent == folder / "flags"
    body, commands = rest.split("\n\n")
    assert json.loads(body)["code"]["jax"]
    for i, line in enumerate(commands.splitlines()):
        words = shlex.split(line)
        assert f"--folder={folder}" in words
        assert f"--cpus={i}" in words
        assert (f"CUDA_VISIBLE_DEVICES={i}" in words) == bool(gpus)
        module = words.index("-m")
        assert words[module + 1] == "launch.worker"
        # It is a command: up to the module it runs as it stands.
        begin = [*words[:module], "-c", "print(1)"]
        assert subprocess.run(begin, capture_output=True, text=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices=3"], "--devices: expected at most 2 GPUs, got 3"),
        (["--workers=3"], "--workers: expected at most 2, as there are 2 GPUs"),
        (["--workers=2", "--devices=2"], "--workers: expected at most 1"),
    ],
)
def test_more_devices_than_there_are(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(local, "gpus_here", lambda: ["0", "1"])
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = tmp_path / "study"
    argv = ["local", f"--experiment={_tiny.__file__}", f"--folder={folder}", *words]
    assert command.guarded(local.main, argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not folder.exists()


def test_what_no_launcher_runs(tmp_path, capsys):
    for word in ("--verify=ab", "--mesh=data:2"):
        argv = [f"--experiment={_tiny.__file__}", f"--folder={tmp_path / 'x'}", word]

        def main(argv):
            given = places.read(command.parse(["x", *argv], launches.define, ""))
            launches.begin(given, "x")

        assert command.guarded(main, argv) == 2
        assert capsys.readouterr().err.startswith(f"error: {word.split('=')[0]}: ")
        assert not (tmp_path / "x").exists()
