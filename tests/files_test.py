"""Errors of disks, and of libraries that write: one line, the path and why."""

import pytest

from headwise import _files


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (None, "No such file or directory"),
        ("file", "Not a directory"),
        ("folder", None),
    ],
)
def test_what_a_library_says_of_a_lost_folder_is_told_as_the_disk_does(
    there, words, tmp_path
):
    """Whatever its moment: orbax may say that a directory of its own does not exist."""
    folder = tmp_path / "checkpoints"
    if there == "file":
        folder.write_text("")
    elif there == "folder":
        folder.mkdir()
    said = ValueError("Checkpoint directory does not exist: ...")
    expected = ValueError if words is None else OSError
    with pytest.raises(expected) as raised, _files.writing(folder / "6"):
        raise said
    if words is None:
        assert raised.value is said
    else:
        assert str(raised.value) == f"{folder / '6'}: {words}"
        assert raised.value.__cause__ is said
