"""What the package says of itself agrees: versions, the page on PyPI, what is shown."""

import configparser
import importlib.util
import pathlib
import re
import subprocess
import sys

import yaml

import headwise as hw
from tests import _pages

ROOT = pathlib.Path(__file__).parents[1]


def pypi_page():
    """The long description, as a build of the package computes it."""
    command = [sys.executable, "setup.py", "--quiet", "--long-description"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {hw.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[?(\d[\d.]*)", changes, re.MULTILINE)[0] == hw.__version__


def test_the_citation_is_of_the_last_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text()
    version, day = re.findall(r"^## \[?(\d[\d.]*)\]? - (\S+)", changes, re.MULTILINE)[0]
    assert (str(citation["version"]), str(citation["date-released"])) == (version, day)
    metadata = _setup()["metadata"]
    assert citation["license"] == metadata["license"]
    assert f"Source = {citation['repository-code']}\n" in metadata["project_urls"]


def _setup():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_every_extra_is_tried_in_a_bare_environment():
    spec = importlib.util.spec_from_file_location("uses", ROOT / ".ci/use_extras.py")
    uses = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(uses)
    extras = set(_setup()["options.extras_require"]) - {
        "dev",
        "cuda12",
        "cuda13",
        "tpu",
    }
    assert set(uses.USES) == extras | {"none"}
    (line,) = re.findall(r"extras=\((\w.*?)\)", (ROOT / ".ci/extras").read_text())
    assert line.split() == list(uses.USES)


def test_links_on_pypi_are_whole_and_lead_to_files():
    page = pypi_page()
    assert _pages.links(page) == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.count("](https://") >= len(_pages.links(readme)) > 10
    for view, path in re.findall(r"headwise/(raw|blob)/main/([^)#]+)[)#]", page):
        assert (ROOT / path).exists(), path
        assert (view == "raw") == path.endswith(".png"), path


def test_everything_shown_is_listed():
    listed = set(hw.__all__)
    assert listed <= set(dir(hw))
    shown = {name for name in vars(hw) if not name.startswith("_")} - {"typing"}
    assert shown <= listed
    for name in ("head_grads", "balancers", "training"):
        assert f"hw.{name}" in (hw.__doc__ or "")
