"""Every experiment runs small; every wrong flag is one clear line and exit code 2."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

import headwise as hw
from experiments import main
from experiments.harness import command
from experiments.harness import find

ROOT = pathlib.Path(main.__file__).parents[1]


def call(capsys, *arguments):
    """Runs `main` in this process; (exit code, stdout, stderr)."""
    code = command.guarded(main.main, ["main", *arguments])
    return code, *capsys.readouterr()


# What takes long as it stands: what is asked of it here depends on no size. The others
# have the sizes, and the sweeps the seeds, that they have by themselves.
SMALL = {
    "brain": {"width": 2, "batch_size": 1},
    "digits": {"width": 8, "batch_size": 8},
    "tabular": {"width": 8, "batch_size": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*find.names(), str(ROOT / "experiments/template.py")])
def test_run_then_sweep(name, tmp_path, capsys):
    spec, small = find.load(name).SPEC, SMALL.get(name, {})
    heads = sorted(spec.heads)
    weights = ",".join(f"{head}={1 + i / 10}" for i, head in enumerate(heads))
    common = [f"--experiment={name}", "--smoke"]
    if small:
        common.append("--set=" + ",".join(f"{n}={x}" for n, x in small.items()))
    run = tmp_path / "run"
    code, out, err = call(capsys, *common, f"--weights={weights}", f"--workdir={run}")
    assert (code, err) == (0, "")
    assert "Which loss moves which module" in out
    result = json.loads((run / "result.json").read_text())
    assert set(result) == set(spec.metrics)
    assert (run / "heads.png").stat().st_size > 10_000
    assert "graph LR" in (run / "routing.txt").read_text()
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    expected = {head: 1 + i / 10 for i, head in enumerate(heads)}
    assert first["weights"] == pytest.approx(expected)
    (record,) = hw.sweeps.read(run)
    assert (record["weights"], record["metrics"]) == (expected, result)
    assert record["settings"] == {
        "experiment": name,
        "balancer": "constant",
        "steps": 12,
        **spec.defaults,
        **small,
        "smoke": True,
    }
    assert record["made_with"]["versions"]["jax"]
    study = tmp_path / "study"
    seeds = ["--seeds=0,1"] if small else []
    code, out, err = call(capsys, *common, "--sweep", *seeds, f"--workdir={study}")
    assert (code, err) == (0, "")
    assert "standard deviation over" in out
    files = ("table.txt", "front.png", "weights.png", "trials.jsonl", "best/heads.png")
    for file in files:
        assert (study / file).stat().st_size > 100, file
    records = hw.sweeps.read(study)
    assert {r["settings"]["steps"] for r in records} == {12}
    page = (study / "report.html").read_text()
    if name != "seed_network":
        return
    # The command that the report tells of a trial runs it again.
    commands = page.split('id="commands">')[1].split("</script>")[0]
    told = json.loads(commands)[-1].split()
    assert told[:3] == ["python", "-m", "experiments.main"]
    code, out, err = call(capsys, *told[3:])
    assert (code, err) == (0, "")
    (again,) = hw.sweeps.read(told[-1].removeprefix("--workdir="))
    assert again["settings"] == records[-1]["settings"]
    assert again["metrics"] == pytest.approx(records[-1]["metrics"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "balancer", ["equal", "famo", "gradvac", "db_mtl", "every:k=5,balancer=mgda"]
)
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
    (record,) = hw.sweeps.read(tmp_path / "run")
    assert (record["weights"], record["settings"]["balancer"]) == ({}, balancer)


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
    assert len(hw.sweeps.read(tmp_path / "b")) == 1


@pytest.mark.slow
def test_settings_change_the_run_and_its_folder(tmp_path, capsys, caplog, monkeypatch):
    workdir = f"--workdir={tmp_path / 'run'}"
    common = ("--experiment=seed_network", "--smoke", workdir)
    code, _, err = call(capsys, *common, "--set=lr=3e-3,width=8")
    assert (code, err) == (0, "")
    (record,) = hw.sweeps.read(tmp_path / "run")
    changed = {"lr": 3e-3, "width": 8}
    assert {n: record["settings"][n] for n in changed} == changed
    assert caplog.messages == []
    monkeypatch.setattr(find, "source", lambda module: "edited since")
    code, _, _ = call(capsys, *common, "--set=lr=3e-3,width=8")
    assert code == 0
    edited = f"{tmp_path / 'run'}: the file of seed_network has changed since"
    assert [message[: len(edited)] for message in caplog.messages] == [edited]
    code, _, err = call(capsys, *common)
    assert code == 2
    assert "belongs to another run: settings was" in err


@pytest.mark.slow
def test_a_run_that_diverges_fails_and_says_so_in_its_record(tmp_path, capsys):
    code, _, err = call(
        capsys,
        "--experiment=seed_network",
        "--smoke",
        "--set=lr=1e30",
        f"--workdir={tmp_path / 'run'}",
    )
    assert code == 1
    assert "is not finite" in err
    (record,) = hw.sweeps.read(tmp_path / "run")
    assert not record["finite"]
    assert err == f"error: {record['error']}\n"
    assert record["error"].startswith(f"step {record['stopped']}: ")


def test_a_sweep_without_a_finite_trial_or_of_another_train(tmp_path, capsys):
    """One line each, where the pictures and the sweep would raise."""
    file, study = tmp_path / "mine.py", tmp_path / "study"
    text = (ROOT / "experiments/template.py").read_text()
    assert text.count("held_out, None)[0],") == 1
    text = text.replace(
        "held_out, None)[0],", "held_out, None)[0] | {'slope': jax.numpy.nan},"
    )
    file.write_text(text)
    flags = (f"--experiment={file}", "--smoke", "--sweep", f"--workdir={study}")
    code, _, err = call(capsys, *flags)
    assert code == 1
    said = "error: no trial came to a finite end (the first: a metric is not finite)"
    assert err == f"{said}; --retry tries again\n"
    assert list(study.glob("*.png")) == []
    text = study / "study.json"
    text.write_text(text.read_text().replace('"source": "', '"source": "0'))
    code, _, err = call(capsys, *flags)
    assert code == 2, text.read_text() + err
    assert err.startswith("error: folder ")
    assert "belongs to another study: program.make.source was" in err
    assert err.count("\n") == 1


FAULTS = {
    "memory": (
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room\nfor a page"),
        1,
        "error: out of memory: RESOURCE_EXHAUSTED: no room for a page\n",
    ),
    "disk": (
        OSError(28, "No space left on device", "runs/x"),
        1,
        "error: [Errno 28] No space left on device: 'runs/x'\n",
    ),
    "Ctrl-C": (
        KeyboardInterrupt(),
        75,
        "interrupted by SIGINT: the same command goes on\n",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_machine_are_one_line(fault, tmp_path, capsys, monkeypatch):
    error, code, said = FAULTS[fault]

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(hw.training, "fit", fails)
    run = tmp_path / "run"
    flags = ("--experiment=seed_network", "--smoke", f"--workdir={run}")
    found, _, err = call(capsys, *flags)
    assert (found, err) == (code, said)
    errors = [record["error"] for record in hw.sweeps.read(run)]
    memory = "out of memory: RESOURCE_EXHAUSTED: no room\nfor a page"
    assert errors == ([memory] if fault == "memory" else [])


WRONG = {
    "unknown experiment": (
        ["--experiment=brian"],
        f"expected one of {', '.join(find.names())}; got",
    ),
    "no experiment": ([], "--experiment: expected one of"),
    "no such file": (["--experiment=no/such.py"], "no such file: no/such.py"),
    "unknown flag": (["--experimnt=brain"], "Unknown command line flag"),
    "passed over flag": (["--undefok=x", "--x=1"], "--undefok: no flag is passed over"),
    "a launcher's flag": (["--seeds=0,1"], "Did you mean: seed"),
    "unknown head": (["--weights=left=1,rigth=1"], "expected the heads left, right"),
    "missing head": (["--weights=left=1"], "got left"),
    "weight that is no number": (["--weights=left=1,right=x"], "number for 'right'"),
    "negative weight": (
        ["--weights=left=1,right=-1"],
        "(float32), for 'right'; got -1",
    ),
    "infinite weight": (
        ["--weights=left=1,right=inf"],
        "(float32), for 'right'; got inf",
    ),
    "weight without name": (["--weights=0.5,0.3"], "expected NAME=VALUE"),
    "head twice": (["--weights=left=1,left=2,right=1"], "'left' is given twice"),
    "unknown balancer": (
        ["--balancer=mgad"],
        "that docs/guides/balancers.md lists; got mgad (did you mean mgda?)",
    ),
    "weights with a balancer": (
        ["--balancer=mgda", "--weights=left=1,right=1"],
        "go with --balancer=constant alone",
    ),
    "balancer that does not fit": (
        ["--balancer=modo"],
        "--balancer=modo: batches: expected",
    ),
    "sweep of other heads": (
        ["--sweep", "--weights=left=1:2"],
        "the heads left, right",
    ),
    "sweep with a seed": (["--sweep", "--seed=7"], "Did you mean: seeds"),
    "sweep with a balancer": (["--sweep", "--balancer=mgda"], "mean: balancers"),
    "sweep with a profile": (["--sweep", "--profile=3"], "flag 'profile'"),
    "sweep of two folders": (["--sweep", "--folder=x"], "another name of --folder"),
    "sweep that cannot be": (["--sweep", "--set=width=-1"], "--set: "),
    "sweep of a balancer that does not fit": (
        ["--sweep", "--balancers=modo"],
        "--balancer=modo: batches: expected",
    ),
    "unknown setting": (["--set=rate=1"], "expected some of lr, width, batch_size"),
    "setting of another type": (["--set=width=2.5"], "a whole number for 'width'"),
    "setting that cannot be": (["--set=width=-1"], "--set: "),
    "no such tracker": (["--track=aim"], "--track: expected mlflow or wandb, got aim"),
    "no steps": (["--steps=0"], "--steps: expected 1 or more"),
    "steps that are no number": (["--steps=many"], "--steps=many"),
    "no such dtype": (["--dtype=half"], "--dtype: expected one of float32, bfloat16"),
    "no mesh": (["--mesh=4"], "--mesh: expected NAME:VALUE,..., got '4'"),
    "no examples in a mesh": (["--mesh=model:4"], "expected data:N or data:N,model:M"),
    "a mesh of nothing": (["--mesh=data:0"], "--mesh: data: expected 1 or more"),
    "a mesh of more devices": (
        ["--experiment=seed_network", "--mesh=data:4,model:2"],
        "--mesh: expected at most the 4 devices that are there (cpu), got 4 * 2; "
        "XLA_FLAGS=--xla_force_host_platform_device_count=8",
    ),
    "a batch that a mesh does not divide": (
        ["--experiment=seed_network", "--mesh=data:3"],
        "--mesh: batch: expected a leading axis that the 3 devices of mesh axis 'data' "
        "divide, got shape (64, 4) at 'inputs'",
    ),
    "stray argument": (["train"], "expected flags only, got 'train'"),
    "no flagfile": (["--flagfile=/no/such"], "/no/such"),
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


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": "research", "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_itself_exits_with_2():
    done = python("-m", "experiments.main", "--experiment=brian")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --experiment: expected one")


def test_without_flags_it_lists_the_experiments(capsys):
    code, out, err = call(capsys)
    assert (code, err) == (0, "")
    for name in find.names():
        assert f"--experiment={name}" in out
    assert "does loss2 update only the layers that lead to y2" in out


def test_help_says_the_flags_of_this_command_alone(capsys):
    with pytest.raises(SystemExit) as stop:
        call(capsys, "--help")
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--balancer" in out
    assert "grain" not in out


def test_flags_from_a_file(tmp_path, capsys):
    file = tmp_path / "flags"
    file.write_text("# a comment\n--experiment=digits\n--steps=0\n")
    code, _, err = call(capsys, f"--flagfile={file}")
    assert (code, err) == (2, "error: --steps: expected 1 or more, got 0\n")


def test_importing_main_imports_no_experiment_and_no_data():
    code = """
import sys
import experiments.main
from absl import flags
print([name for name in sys.modules if name.startswith("experiments.tasks.")])
print([name for name in ("river", "nilearn", "mlxtend") if name in sys.modules])
print([name for name in ("experiment", "balancer") if name in flags.FLAGS])
"""
    done = python("-c", code)
    assert done.stdout.splitlines() == ["[]", "[]", "[]"], done.stderr


def test_every_experiment_opens_with_what_a_reader_needs():
    for name in [*find.names(), str(ROOT / "experiments/template.py")]:
        module = find.load(name)
        for word in ("Question:", "Command:", "Time:", "Expected:"):
            assert word in module.__doc__, (name, word)
        assert "TODO" not in module.__doc__
