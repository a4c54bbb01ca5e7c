"""A user's own file, from any folder; and what is said of one that lacks something."""

import importlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import headwise as hw
from experiments.harness import find
from experiments.harness.text import UsageError

ROOT = pathlib.Path(find.__file__).parents[2]


def test_names_are_the_files_of_the_folder():
    names = find.names()
    assert {"brain", "digits", "seed_network", "tabular"} <= set(names)
    assert names == sorted(names)
    assert "__init__" not in names
    assert [find.title(e) for e in ("brain", "a/b/mine.py")] == ["brain", "mine"]


def test_specs_are_whole():
    for name in find.names():
        spec = find.load(name).SPEC
        assert spec.smoke().steps < spec.steps
        assert sorted(spec.heads) == list(spec.heads)
        if spec.design is not None:
            assert set(spec.design) == set(spec.heads)


def test_specs_read_no_data(monkeypatch):
    for loader in ("brain_volumes", "load_digits", "load_yeast"):
        monkeypatch.delattr(hw.data, loader)
    for name in find.names():
        assert importlib.reload(find.load(name)).SPEC.heads
    with pytest.raises(AttributeError, match="load_yeast"):
        find.load("tabular").build({"width": 4})


@pytest.mark.slow
def test_file_outside_the_checkout_runs_with_the_files_beside_it(tmp_path):
    """It is started from its own folder, and imports a helper that lies there."""
    template = (ROOT / "experiments/template.py").read_text()
    mine = template.replace('"noise": 0.1', '"noise": noise_of_mine.NOISE').replace(
        "import headwise as hw", "import headwise as hw\nimport noise_of_mine"
    )
    assert mine.count("noise_of_mine") == 2
    (tmp_path / "mine.py").write_text(mine)
    (tmp_path / "noise_of_mine.py").write_text("NOISE = 0.25\n")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.main", "--experiment=mine.py", "--smoke"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'research'}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = hw.sweeps.read(tmp_path / "runs/mine")
    assert record["settings"]["noise"] == 0.25
    assert record["settings"]["experiment"] == str(tmp_path / "mine.py")


def test_template_is_found_as_a_task_once_it_is_copied(tmp_path, monkeypatch):
    shutil.copy(ROOT / "experiments/template.py", tmp_path / "lines.py")
    monkeypatch.setattr(find, "TASKS", tmp_path)
    assert find.names() == ["lines"]
    assert "--experiment=lines" in find.listing()
    assert "how do the values of two lines" in find.listing()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SPEC = Spec(", "SPECS = Spec(", "expected SPEC = Spec(...) in it"),
        ("def build(", "def make(", "expected a function build(settings) in it"),
        ('"lr": 0.03', '"smoke": True', "none called balancer, experiment"),
        ('"lr": 0.03', '"lr": None', "got lr=None"),
        (
            'front=("slope"',
            'front=("slop"',
            "SPEC.front: expected two of slope, offset",
        ),
    ],
)
def test_what_a_file_lacks_is_said(old, new, said, tmp_path):
    template = (ROOT / "experiments/template.py").read_text()
    assert template.count(old) == 1
    path = tmp_path / "wrong.py"
    path.write_text(template.replace(old, new))
    with pytest.raises(UsageError) as error:
        find.load(str(path))
    assert said in str(error.value)
    assert f"--experiment={path}: " in str(error.value)


def test_no_such_file_or_name():
    with pytest.raises(UsageError, match=r"no such file: no/such\.py"):
        find.load("no/such.py")
    with pytest.raises(UsageError, match=r"expected one of .*brain, .* got brian"):
        find.load("brian")
    with pytest.raises(UsageError, match=r"expected one of .*brain, .* got None"):
        find.load(None)
