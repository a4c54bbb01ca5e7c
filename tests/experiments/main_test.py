"""Every experiment runs small; every wrong flag is one clear line and exit code 2."""

import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import main

ROOT = pathlib.Path(main.__file__).parents[1]


def call(capsys, *arguments):
    """Runs `main` in this process; (exit code, stdout, stderr)."""
    with flagsaver.flagsaver():
        try:
            argv = main.parse_flags(["main", *arguments])
            code = main.guarded(argv) or 0
        except SystemExit as stop:
            code = stop.code
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def flags_stay_parsed():
    yield
    flags.FLAGS.mark_as_parsed()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(main.EXPERIMENTS))
def test_run_then_sweep(name, tmp_path, capsys):
    experiment = main.EXPERIMENTS[name].make(smoke=True)
    heads = list(experiment.names)
    weights = ",".join(f"{head}={1 + i / 10}" for i, head in enumerate(heads))
    common = (f"--experiment={name}", "--smoke")
    run = tmp_path / "run"
    code, out, err = call(capsys, *common, f"--weights={weights}", f"--workdir={run}")
    assert (code, err) == (0, "")
    assert "Which loss moves which module" in out
    result = json.loads((run / "result.json").read_text())
    assert set(result) == set(experiment.higher)
    assert (run / "heads.png").stat().st_size > 10_000
    assert "graph LR" in (run / "routing.txt").read_text()
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["weights"] == pytest.approx(
        {head: 1 + i / 10 for i, head in enumerate(heads)}
    )
    study = tmp_path / "study"
    code, out, err = call(capsys, *common, "--sweep", f"--workdir={study}")
    assert (code, err) == (0, "")
    assert "standard deviation over" in out
    files = ("table.txt", "front.png", "weights.png", "trials.jsonl", "best/heads.png")
    for file in files:
        assert (study / file).stat().st_size > 100, file


@pytest.mark.parametrize("balancer", main.BALANCERS)
def test_every_balancer_can_be_made(balancer):
    weights = {"a": 1.0, "b": 1.0}
    make = main.BALANCERS[balancer]
    made = make(weights) if balancer == "constant" else make()
    assert made.init(["a", "b"], {"w": 0.0}) is not None


@pytest.mark.slow
@pytest.mark.parametrize("balancer", ["equal", "famo", "gradvac", "db_mtl"])
def test_every_kind_of_balancer_runs(balancer, tmp_path, capsys):
    code, out, err = call(
        capsys,
        "--experiment=seed_network",
        "--smoke",
        f"--balancer={balancer}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert (code, err) == (0, "")
    assert "loss1 moves A, B, C\nloss2 moves A, B, D" in out


@pytest.mark.slow
def test_constant_is_the_balancer_of_weights(tmp_path, capsys):
    """With the name or without it, it is the same run, in the same folder."""
    common = ("--experiment=seed_network", "--smoke", "--weights=loss1=1,loss2=0.25")
    for arguments in (common, (*common, "--balancer=constant")):
        code, _, err = call(capsys, *arguments, f"--workdir={tmp_path / 'run'}")
        assert (code, err) == (0, "")
    first = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert first["weights"] == {"loss1": 1.0, "loss2": 0.25}


@pytest.mark.slow
def test_interrupted_command_goes_on_and_says_the_same(tmp_path, capsys):
    common = ("--experiment=seed_network", "--smoke", "--seed=3")
    call(capsys, *common, f"--workdir={tmp_path / 'a'}")
    call(capsys, *common, f"--workdir={tmp_path / 'b'}")
    (tmp_path / "b" / "result.json").unlink()
    code, _, _ = call(capsys, *common, f"--workdir={tmp_path / 'b'}")
    assert code == 0
    results = [(tmp_path / n / "result.json").read_text() for n in "ab"]
    assert results[0] == results[1]


WRONG = {
    "unknown experiment": (["--experiment=brian"], "expected one of brain, digits"),
    "no experiment": ([], "--experiment: expected one of"),
    "unknown flag": (["--experimnt=brain"], "Unknown command line flag"),
    "unknown head": (["--weights=left=1,rigth=1"], "expected the heads left, right"),
    "missing head": (["--weights=left=1"], "got left"),
    "weight that is no number": (["--weights=left=1,right=x"], "number for 'right'"),
    "negative weight": (["--weights=left=1,right=-1"], "0 or more for 'right'"),
    "infinite weight": (["--weights=left=1,right=inf"], "0 or more for 'right'"),
    "weight without name": (["--weights=0.5,0.3"], "expected NAME=NUMBER"),
    "head twice": (["--weights=left=1,left=2,right=1"], "'left' is given twice"),
    "unknown balancer": (
        ["--balancer=mgad"],
        "expected one of aligned_mtl, cagrad",
    ),
    "weights with a balancer": (
        ["--balancer=mgda", "--weights=left=1,right=1"],
        "go with --balancer=constant alone",
    ),
    "sweep with weights": (["--sweep", "--weights=left=1,right=1"], "own weights"),
    "no steps": (["--steps=0"], "--steps: expected 1 or more"),
    "steps that are no number": (["--steps=many"], "--steps=many"),
    "stray argument": (["train"], "expected flags only, got 'train'"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_flags_are_one_line_and_leave_nothing(case, tmp_path, capsys):
    arguments, text = WRONG[case]
    if not any("experim" in a for a in arguments) and case != "no experiment":
        arguments = ["--experiment=digits", *arguments]
    workdir = tmp_path / "run"
    code, _, err = call(capsys, *arguments, "--smoke", f"--workdir={workdir}")
    assert code == 2
    assert text in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not workdir.exists()


def test_folder_of_another_run_is_refused(tmp_path, capsys):
    common = ("--experiment=seed_network", "--smoke", f"--workdir={tmp_path}")
    (tmp_path / "run.json").write_text(json.dumps({"experiment": "brain"}))
    code, _, err = call(capsys, *common)
    assert code == 2
    assert "belongs to another run" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    common = ("--experiment=seed_network", "--smoke")
    code, _, err = call(capsys, *common, f"--workdir={tmp_path / 'file' / 'run'}")
    assert code == 2
    assert "not writable" in err


def test_the_command_itself_exits_with_2():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.main", "--experiment=brian"],
        cwd=ROOT,
        env={"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --experiment: expected one")


def test_every_experiment_opens_with_what_a_reader_needs():
    for module in main.EXPERIMENTS.values():
        for word in ("Question:", "Command:", "Time:", "Expected:"):
            assert word in module.__doc__, (module.__name__, word)
        assert "TODO" not in module.__doc__
