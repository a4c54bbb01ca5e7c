"""The revision in a record is that of the code that ran."""

import os
import pathlib
import subprocess

import jax
import pytest

from headwise import _provenance


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), *arguments],
            check=True,
            capture_output=True,
            env=os.environ
            | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
        )

    (tmp_path / "code.py").write_text("1\n")
    git("init", "-q")
    git("add", "code.py")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(*who, "commit", "-q", "-m", "first")
    return tmp_path


def test_revision_of_a_clean_and_a_changed_checkout(checkout):
    head = pathlib.Path(checkout, ".git", "HEAD").read_text().split()[1]
    commit = pathlib.Path(checkout, ".git", head).read_text().strip()
    assert _provenance.revision(checkout / "code.py") == commit
    (checkout / "notes.txt").write_text("not tracked: no part of the code")
    assert _provenance.revision(checkout / "code.py") == commit
    (checkout / "code.py").write_text("2\n")
    assert _provenance.revision(checkout / "code.py") == commit + "+"


def test_code_that_git_does_not_know_has_no_revision(checkout, tmp_path_factory):
    """Such as a package that is installed into a folder of somebody's checkout."""
    (checkout / "installed.py").write_text("")
    assert _provenance.revision(checkout / "installed.py") is None
    outside = tmp_path_factory.mktemp("outside") / "code.py"
    outside.write_text("")
    assert _provenance.revision(outside) is None
    assert _provenance.revision(outside.parent / "none" / "code.py") is None


def test_neither_the_folder_nor_a_hook_of_another_checkout_leads_astray(
    checkout, monkeypatch
):
    here = _provenance.revision(pathlib.Path(_provenance.__file__))
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert _provenance.revision(pathlib.Path(_provenance.__file__)) == here
    monkeypatch.setenv("PATH", "")
    assert _provenance.revision(checkout / "code.py") is None


def test_what_was_given_out_may_be_changed():
    first = _provenance.made_with(device=False)
    first["versions"]["jax"] = "changed by its owner"
    second = _provenance.made_with(device=False)
    assert second["versions"]["jax"] == jax.__version__
