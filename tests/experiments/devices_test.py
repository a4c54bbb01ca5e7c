"""`--mesh` and `--dtype`: the same experiments on several devices, and in half."""

import json

import pytest

import headwise as hw
from experiments.harness import find
from tests.experiments import main_test

SMOKE = ("--experiment=seed_network", "--smoke")


def result(capsys, folder, *flags):
    """What a run came to; the last record of its metrics."""
    workdir = f"--workdir={folder}"
    code, out, err = main_test.call(capsys, *SMOKE, workdir, *flags)
    assert (code, err) == (0, "")
    assert "loss1 moves A, B, C\nloss2 moves A, B, D" in out
    last = hw.training.read_metrics(folder)[-1]
    return json.loads((folder / "result.json").read_text()), last


def test_a_run_on_a_mesh_and_in_half_precision(tmp_path, capsys, caplog):
    """The same numbers on any mesh, which may change; a dtype belongs to the run."""
    flags = ("--balancer=upgrad", "--set=width=64")  # wide enough to be split
    want, _ = result(capsys, tmp_path / "one", *flags)
    folder = tmp_path / "mesh"
    got, _ = result(capsys, folder, *flags, "--mesh=data:2,model:2")
    assert got == pytest.approx(want, rel=1e-4)
    assert caplog.messages == []
    again, _ = result(capsys, folder, *flags, "--mesh=data:4")
    assert again == got
    (line,) = caplog.messages
    assert line == f"{folder}: the mesh has changed since it was made"
    half = tmp_path / "half"
    got, last = result(capsys, half, *flags, "--dtype=bfloat16", "--mesh=data:2")
    assert got == pytest.approx(want, rel=0.05)
    assert got != want
    assert "loss_scale" not in last
    code, _, err = main_test.call(capsys, *SMOKE, *flags, f"--workdir={half}")
    assert code == 2
    assert "belongs to another run: dtype was bfloat16, is not set" in err


def test_sweeps_on_a_mesh_and_in_half_precision(tmp_path, capsys, monkeypatch):
    """Side by side and trial by trial; float16 has a loss scale by itself."""
    task, found = find.load("seed_network"), []
    design = {"loss1": [1.0, 0.5], "loss2": [0.1, 0.5]}
    words = (*SMOKE, "--sweep", "--set=width=64")
    for *flags, mode in (
        ("vmap",),
        ("--mesh=data:2,model:2", "auto"),
        ("--mesh=data:4", "--dtype=float16", "vmap"),
    ):
        flags.append(f"--mode={mode}")
        spec = task.SPEC._replace(seeds=(0,), design=design)
        monkeypatch.setattr(task, "SPEC", spec)
        folder = tmp_path / str(len(found))
        code, _, err = main_test.call(capsys, *words, *flags, f"--workdir={folder}")
        assert (code, err) == (0, "")
        found.append(hw.sweeps.read(folder))
    for want, mesh, half in zip(*found, strict=True):
        assert mesh["metrics"] == pytest.approx(want["metrics"], rel=1e-3)
        assert half["metrics"] == pytest.approx(want["metrics"], rel=0.05)
        assert half["settings"] == want["settings"] | {"dtype": "float16"}
    (*_, last) = hw.training.read_metrics(folder / "best")
    assert last["loss_scale"] == 2.0**15


def test_an_experiment_that_knows_of_no_dtype(tmp_path, capsys):
    text = (main_test.ROOT / "experiments/template.py").read_text()
    assert text.count(", dtype=dtype)") == 1
    file = tmp_path / "mine.py"
    file.write_text(text.replace(", dtype=dtype)", ")"))
    flags = (f"--experiment={file}", "--smoke", f"--workdir={tmp_path / 'run'}")
    code, _, err = main_test.call(capsys, *flags, "--dtype=float16")
    assert code == 2
    assert "--dtype: nothing of this experiment is computed in float16" in err
    assert not (tmp_path / "run").exists()
    file = tmp_path / "other.py"
    file.write_text(text.replace('"noise": 0.1}', '"noise": 0.1, "dtype": "x"}'))
    flags = (f"--experiment={file}", *flags[1:])
    code, _, err = main_test.call(capsys, *flags, "--dtype=float16")
    assert "--dtype: the experiment has a setting dtype; use --set" in err
