"""What every launcher keeps, whatever its engine: flags, a dry run, a place in docs."""

import importlib
import pathlib
import re
import shlex

import pytest
from absl import flags

from experiments.harness import command
from launch import launches
from launch import plan as places
from launch import worker
from tests.launch import _tiny

ROOT = pathlib.Path(launches.__file__).parents[1]
SOURCES = {path.stem: path.read_text() for path in ROOT.glob("launch/*.py")}
LAUNCHERS = sorted(name for name, text in SOURCES.items() if "launches.begin(" in text)
PAGE = (ROOT / "docs/guides/launching.md").read_text(encoding="utf-8")


def test_they_are_found():
    assert "local" in LAUNCHERS


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_dry_run_needs_no_engine_and_writes_nothing(
    name, tmp_path, capsys, monkeypatch
):
    """It prints whole command lines of workers, which the worker understands."""
    monkeypatch.setenv("PATH", "")  # no engine's commands
    module, folder = importlib.import_module(f"launch.{name}"), tmp_path / "a study"
    argv = [name, f"--experiment={_tiny.__file__}", f"--folder={folder}", "--dry_run"]
    assert command.guarded(module.main, [*argv, "--seeds=0:2", "--retry"]) == 0
    out = capsys.readouterr().out
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []
    assert "4 trials, 2 seeds of 30 steps" in out
    lines = [line for line in out.splitlines() if "launch.worker" in line]
    assert lines
    for line in lines:
        words = shlex.split(line.rstrip(")"))  # of an array of the shell
        given = [word for word in words if word.startswith("--folder=")]
        assert given == [f"--folder={folder}"]
        start = words.index("launch.worker")
        mine = [word for word in words[start + 1 :] if word.startswith("--")]
        found = command.parse(["worker", *mine], worker.define, "")
        assert found.launch == "TOKEN"
        assert re.fullmatch("[0-9a-f]{16}", found.study)
        assert found.retry


@pytest.mark.parametrize("name", LAUNCHERS)
def test_it_has_the_flags_of_a_study(name):
    module = importlib.import_module(f"launch.{name}")
    values, shared = flags.FlagValues(), flags.FlagValues()
    getattr(module, "define", launches.define)(values)
    places.define(shared)
    assert {*shared, "dry_run"} <= set(values)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_page_tells_of_it(name):
    assert f"`launch.{name}`" in PAGE or f"-m launch.{name}" in PAGE
