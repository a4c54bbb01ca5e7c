"""docs/guides/launching.md: its commands run, those of engines as dry runs."""

import importlib
import pathlib
import re
import shlex

import pytest

import headwise as hw
from experiments.harness import command
from tests import _pages
from tests.launch import _tiny

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "launching.md"
TINY = pathlib.Path(_tiny.__file__)
TEXT = PAGE.read_text(encoding="utf-8")
FLAGFILE = re.search(r"`study.flags`:\n\n((?:    .*\n)+)", TEXT)[1]


def commands():
    """The lines of `python -m`: what starts it on each host, and what it is given."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n *", " ", block).splitlines()
        for line in lines:
            words = shlex.split(line, comments=True)
            if "python" in words and "-m" in words:
                at = words.index("-m")
                yield words[: at - 1], words[at + 1 :]


REAL = ("experiments.main", "launch.local", "launch.status", "launch.worker")
ENGINES = [found for found in commands() if found[1][0] not in REAL]
# What srun says to each of the processes that it starts.
STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}
STEP |= {"SLURM_STEP_NODELIST": "n[1-4]", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with the page's flagfile; for digits stands what compiles at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.py").write_text(
        TINY.read_text().replace('"a"', '"left"').replace('"b"', '"right"')
    )
    assert "--experiment=digits\n" in FLAGFILE
    flags = FLAGFILE.replace("=digits\n", "=digits.py\n").replace("    ", "")
    (tmp_path / "study.flags").write_text(flags)
    return tmp_path


def go(words):
    name, *argv = words
    return command.guarded(importlib.import_module(name).main, [name, *argv])


@pytest.mark.parametrize(("by", "words"), ENGINES, ids=" ".join)
def test_a_dry_run_of_a_command_of_the_page(by, words, study, capsys, monkeypatch):
    if by[:1] == ["srun"]:
        for name, value in STEP.items():
            monkeypatch.setenv(name, value)
    manifest = words[0] == "launch.manifest"  # it starts nothing by itself
    assert go([*words, *([] if manifest else ["--dry_run"])]) == 0
    assert capsys.readouterr().out or manifest
    may = {"study.yaml", "__pycache__"}  # a manifest is asked for; byte code
    left = {path.name for path in study.iterdir()} - may
    assert left == {"study.flags", "digits.py"}


@pytest.mark.slow
def test_the_commands_that_need_no_engine(study, capsys):
    """In the order of the page: what the first did the others find."""
    real = [words for _, words in commands() if words[0] in REAL]
    assert {words[0] for words in real} == set(REAL)
    for words in real:
        assert go(words) == 0, (words, capsys.readouterr().err)
    records = hw.sweeps.read(study / "studies/digits")
    assert len(records) == 20  # three weightings and mgda, five seeds
    assert {record["seed"] for record in records} == set(range(5))


def test_links():
    for link in _pages.links(TEXT):
        assert (PAGE.parent / link).exists(), link
