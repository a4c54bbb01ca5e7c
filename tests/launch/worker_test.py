"""What a worker checks before it trains: one line, exit 2, and nothing is written."""

import json
import os
import platform

import jax
import pytest

import headwise as hw
from experiments.harness import command
from launch import launches
from launch import local
from launch import plan as places
from launch import worker
from tests.launch import _tiny

GRID = ("--weights=a=1,b=0.5:1:2", "--size=1")


@pytest.fixture
def begun(tmp_path, monkeypatch, capsys):
    """A study that was launched."""
    monkeypatch.setattr(worker, "PATIENCE", 0.1)
    argv = ["local", f"--experiment={_tiny.__file__}", f"--folder={tmp_path}", *GRID]
    launch = launches.begin(places.read(command.parse(argv, local.define, "")), "x")
    capsys.readouterr()
    return launch


def go(launch, *words, **options):
    argv = ["worker", *launches.worker(launch, workers=1, **options), *words]
    return command.guarded(worker.main, argv)


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def change(launch, **code):
    """The launcher was of another version."""
    path = launch.plan.study.folder / f"flags/{launch.name}.json"
    text = json.loads(path.read_text())
    text["code"] |= {name.replace("_", " "): value for name, value in code.items()}
    path.write_text(json.dumps(text))


def elsewhere(launch):
    """The folder has this name here, and is another one."""
    (launch.plan.study.folder / f"launches/{launch.token}.json").unlink()


def no_study(launch):
    (launch.plan.study.folder / f"flags/{launch.name}.json").unlink()


def no_accelerator(launch, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': no plugin\nis there")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "local_devices", devices)


def nothing(launch):
    pass


REFUSED = {
    "another version": (
        lambda launch: change(launch, headwise="0.0.1", the_sources_of_headwise="12"),
        [],
        f"headwise was 0.0.1, is {hw.__version__}; the sources of headwise was 12",
    ),
    "another JAX": (
        lambda launch: change(launch, jax="0.1"),
        [],
        f"jax was 0.1, is {jax.__version__} (launch the study again",
    ),
    "another experiment": (
        lambda launch: change(launch, the_file_of_the_experiment="12"),
        [],
        "the file of the experiment was 12, is ",
    ),
    "another folder": (
        elsewhere,
        [],
        f"--launch: the worker on {platform.node()} does not see the launcher's folder",
    ),
    "no text": (no_study, [], "is no text of a study"),
    "few devices": (
        nothing,
        ["--devices=99"],
        f"expected 99 on {platform.node()}, found {jax.device_count()} (cpu)",
    ),
    "no devices": (nothing, ["--devices=0"], "--devices: expected 1 or more, got 0"),
    "no cohorts": (nothing, ["--cohorts=0"], "--cohorts: expected 1 or more, got 0"),
    "CPUs": (nothing, ["--cpus=x"], "--cpus: expected CPUs of this machine, got x"),
    "no workers": (nothing, ["--workers=0"], "--workers: expected 1 or more, got 0"),
    "no folder": (nothing, ["--folder=/no"], "launches/"),
}


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize("what", REFUSED)
def test_what_a_worker_refuses(what, check, begun, capsys):
    spoil, words, said = REFUSED[what]
    spoil(begun)
    before = files(begun.plan.study.folder)
    assert go(begun, *words, *check) == 2
    out, error = capsys.readouterr()
    assert said in error
    assert (out, error.count("\n")) == ("", 1)
    assert files(begun.plan.study.folder) == before


def test_no_folder_at_all(capsys):
    assert command.guarded(worker.main, ["worker"]) == 2
    said = "error: --folder: expected the folder of a study, got none\n"
    assert capsys.readouterr().err == said


def test_a_platform_that_is_not_there(begun, monkeypatch, capsys):
    """JAX would train on the CPU, did the engine not say what it gave."""
    no_accelerator(begun, monkeypatch)
    assert go(begun) == 2
    said = f"JAX finds none on {platform.node()} (JAX_PLATFORMS=cuda)\n"
    assert capsys.readouterr().err.endswith(said)


def test_check_says_what_is_here_and_trains_nothing(begun, capsys):
    before = files(begun.plan.study.folder)
    assert go(begun, "--check", devices=jax.device_count()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "host": platform.node(),
        "devices": jax.device_count(),
        "backend": "cpu",
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    assert files(begun.plan.study.folder) == before


def test_a_cohort_at_a_time(begun, capsys, monkeypatch):
    """75 while trials are left, by any worker; and it says who its engine is."""
    monkeypatch.setenv("RAY_NODE_ID", "f00")
    folder, codes = begun.plan.study.folder, []
    for done in (1, 2, 3):
        codes.append(go(begun, cohorts=1))
        assert len(hw.sweeps.read(folder)) == done
    assert codes == [75, 75, 0]
    assert "2 of 3 trials are left" in capsys.readouterr().out
    for record in hw.sweeps.read(folder):
        assert record["made_with"]["engine"]["RAY_NODE_ID"] == "f00"
    workers = hw.sweeps.status(folder)["workers"]
    assert [one["engine"]["RAY_NODE_ID"] for one in workers] == ["f00"] * 3
    assert sorted(one["end"]["code"] for one in workers) == [0, 75, 75]
    assert os.environ["RAY_NODE_ID"] == "f00"
