"""Names that can be taken once, whatever the disk says and does."""

import errno
import json
import os

import pytest

from headwise.sweeps._store import _links

WAYS = {"by_link": _links.by_link, "by_folder": _links.by_folder}


@pytest.fixture(params=WAYS)
def take(request):
    return WAYS[request.param]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "headwise"]


def test_a_name_is_taken_once_and_stays_as_it_was(take, tmp_path):
    path = tmp_path / "000000.json"
    assert [take(path, data) for data in (b"first", b"second", b"")] == [
        True,
        False,
        False,
    ]
    assert path.read_bytes() == b"first"
    assert [n for n in names(tmp_path) if not n.endswith(".taken")] == [path.name]


def test_a_disk_with_links_is_found_out_and_left_as_it_was(tmp_path, caplog):
    assert _links.way(tmp_path) is _links.by_link
    assert names(tmp_path) == []
    assert told(caplog) == []


def refuses(code):
    def link(source, target):
        raise OSError(code, os.strerror(code))

    return link


def copies(source, target):
    """As a disk does that has copies alone."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        copy.write(file.read())


def replaces(source, target):
    """As one that does not keep a name that is taken."""
    if os.path.exists(target):
        os.unlink(target)
    LINK(source, target)


LINK = os.link


@pytest.mark.parametrize(
    "link",
    [refuses(errno.EPERM), refuses(errno.EOPNOTSUPP), copies, replaces],
    ids=["EPERM", "EOPNOTSUPP", "copies", "replaces"],
)
def test_a_disk_without_links_takes_names_by_folders(
    link, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(os, "link", link)
    take = _links.way(tmp_path)
    assert take is _links.by_folder
    (message,) = told(caplog)
    assert message.startswith(f"{tmp_path}: this disk has no links: names in it are")
    assert names(tmp_path) == []
    assert take(tmp_path / "a", b"1")
    assert not take(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO, errno.ESTALE])
def test_an_answer_that_is_lost_after_the_link_was_made(code, tmp_path, monkeypatch):
    """NFS asks twice: the second time the name is there, by itself."""

    def link(source, target):
        LINK(source, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    assert _links.by_link(tmp_path / "a", b"mine")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert names(tmp_path) == ["a"]


def test_an_answer_that_is_lost_before_the_link_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuses(errno.EIO))
    with pytest.raises(OSError, match=f"^{tmp_path}/a: Input/output error$"):
        _links.by_link(tmp_path / "a", b"mine")
    assert names(tmp_path) == []


def test_a_name_that_somebody_else_got_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(b"theirs")

    def link(source, target):
        LINK(tmp_path / "other", target)
        LINK(source, target)

    monkeypatch.setattr(os, "link", link)
    assert not _links.by_link(tmp_path / "a", b"mine")
    assert (tmp_path / "a").read_bytes() == b"theirs"


def test_a_name_whose_taker_was_killed_in_between(tmp_path, monkeypatch):
    """By folders: the name is taken, but what it stands for has not been written."""

    def killed(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("headwise._files.write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            _links.by_folder(tmp_path / "a", b"first")
    assert not (tmp_path / "a").exists()
    assert not _links.by_folder(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_folder_that_is_not_there_is_one_line(take, tmp_path):
    with pytest.raises(
        OSError, match=f"^{tmp_path}/away/a: No such file or directory$"
    ):
        take(tmp_path / "away/a", b"")
    with pytest.raises(OSError, match=r"away: No such file or directory$"):
        _links.way(tmp_path / "away")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is damaged .Expecting value"),
        (b'{"a": 1', "Expecting"),
        (b"\xff", "utf-8|UTF-8"),
        (b"[]", "an object of JSON"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_json_is_one_line(text, words, tmp_path):
    path = tmp_path / "a.json"
    assert _links.read(path) is None
    path.write_bytes(text)
    with pytest.raises(ValueError, match=words) as error:
        _links.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    path.write_bytes(_links.text({"a": 0.1 + 0.2}))
    assert _links.read(path) == {"a": 0.1 + 0.2} == json.loads(path.read_bytes())
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"a\.json: Is a directory"):
        _links.read(path)
