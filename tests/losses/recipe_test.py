"""The recipes of docs/add_a_loss.md, followed on a throw-away copy of the project."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add_a_loss.md"
COPIED = ("research", "tests", "docs", "conftest.py", "setup.cfg", "pyproject.toml")
BLOCK = re.compile(r"^```(?:py|md)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The tests that judge a new loss and a new metric.
JUDGES = (
    "tests/docstrings_test.py",
    "tests/layering_test.py",
    "tests/losses/dense_battery_test.py",
    "tests/losses/entries_test.py",
    "tests/losses/layout_test.py",
    "tests/losses/options_test.py",
    "tests/losses/page_test.py",
    "tests/metrics/bias_test.py",
    "research/headwise/losses/_peak.py",
    "research/headwise/metrics/_bias.py",
)
CHOSEN = "peak_error or bias or entr or every or losses or metrics or layer or example"


def steps(heading):
    """[(path, text)] of the blocks under a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.split(r"^## ", text.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]
    return BLOCK.findall(section)


def export(source, text):
    """An `__init__` with one more import and one more name, both in order."""
    line, name = (part.strip("\n") for part in text.split("\n\n"))
    imports = [x for x in source.splitlines() if x.startswith("from headwise.")]
    after = [x for x in imports if x.lower() > line.lower()]
    source = source.replace(after[0], f"{line}\n{after[0]}", 1)
    names = [x for x in source.splitlines() if re.fullmatch(r'    "\w+",', x)]
    after = [x for x in names if x > name]
    return source.replace(after[0], f"{name}\n{after[0]}", 1)


def follow(root, path, text):
    """Does one step of a recipe."""
    file = root / path
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        return
    source = file.read_text(encoding="utf-8")
    if path.endswith("__init__.py"):
        source = export(source, text)
    elif path.endswith("_entries.py"):
        source = source.rstrip().removesuffix("}") + text + "}\n"
    elif text.startswith("|"):
        row = next(x for x in source.splitlines() if x.startswith("| `ssim`"))
        source = source.replace(row, f"{row}\n{text.rstrip()}", 1)
    else:
        source = f"{source}\n\n{text}"
    file.write_text(source, encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with a new loss and a new metric, as the page says."""
    root = tmp_path_factory.mktemp("project")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, root / name)
    for heading in ("Add a loss", "Add a metric"):
        for path, text in steps(heading):
            follow(root, path, text)
    return root


def test_each_recipe_has_its_places():
    assert [path for path, _ in steps("Add a loss")] == [
        "research/headwise/losses/_peak.py",
        "research/headwise/losses/__init__.py",
        "tests/losses/_dense_reference.py",
        "tests/losses/_dense_entries.py",
        "docs/losses.md",
    ]
    assert [path for path, _ in steps("Add a metric")] == [
        "research/headwise/metrics/_bias.py",
        "research/headwise/metrics/__init__.py",
        "tests/metrics/bias_test.py",
        "docs/losses.md",
    ]


@pytest.mark.slow
def test_what_the_recipes_make_passes_the_tests(copy):
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'research'}{os.pathsep}{copy}"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", CHOSEN, *JUDGES],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
