"""The page of licences names what setup.cfg names, and what has become copyleft."""

import importlib.metadata
import re

import pytest

import headwise as hw
from docs._site import licences
from docs._site import names

TEXT = licences.PAGE.read_text(encoding="utf-8")
ROWS = licences.rows(TEXT)


def test_page_and_setup_name_the_same_packages():
    assert {n: re.findall(r"\[(\w+)\]", r.extras) for n, r in ROWS.items()} == {
        name: [extra for extra in extras if extra]
        for name, extras in licences.required().items()
    }
    for name, extras in licences.required().items():
        assert ("always" in ROWS[name].extras) == ("" in extras), name
        assert ROWS[name].licence != "not read", name


@pytest.mark.parametrize("name", sorted(licences.required()))
def test_nothing_has_become_copyleft(name):
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return  # an extra that is not here: the page's row is what its wheel said
    words = licences.licence(metadata)
    assert ROWS[name].licence.startswith("**") == licences.is_copyleft(words), words


def test_copyleft_is_explained_and_kept_out_of_the_library():
    marked = {name for name, row in ROWS.items() if row.licence.startswith("**")}
    assert marked == set(re.findall(r"^- `(\w+)` \(L?GPL\)", TEXT, re.MULTILINE))
    assert not any("always" in ROWS[name].extras for name in marked)


def test_every_data_set_is_told():
    table = TEXT[TEXT.index("## Data sets") :]
    code = "".join(p.read_text() for p in (names.LIBRARY / "data").glob("*.py"))
    packages = set(re.findall(r'locate\(\s*"(\w+)"', code))
    assert packages == set(re.findall(r"^\| .* \| `(\w+)`: ", table, re.MULTILINE))
    loaders = {n for n in hw.data.__all__ if n.startswith(("load_", "read_"))}
    assert loaders <= set(re.findall(r"`hw\.data\.(\w+)`", table))


class Metadata(dict):
    """As of a wheel: keys, of which one may stand there several times."""

    def get_all(self, key):
        return [self[key]] if key in self else None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"License": "\n    Apache License\n  Version 2.0"}, "Apache License"),
        (
            {
                "License": "Copyright (c) 2001",
                "Classifier": "License :: OSI Approved :: BSD License",
            },
            "BSD License",
        ),
        ({}, "not said"),
    ],
)
def test_what_a_package_says_of_itself(metadata, expected):
    assert licences.licence(Metadata(metadata)) == expected
