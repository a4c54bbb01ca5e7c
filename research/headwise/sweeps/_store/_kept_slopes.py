"""Slopes of trials in a study's folder: `slopes/KEY.json`, each name taken once."""

import pathlib
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise.sweeps._store import _links

FOLDER = "slopes"


def keep(folder: pathlib.Path, texts: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the slopes of trials, {key: plain JSON}; those that are there stay.

    Raises:
        OSError: the disk refuses it; one line.
    """
    with _files.writing(folder):
        (folder / FOLDER).mkdir(exist_ok=True)
    take = _links.way(folder)
    for key, text in texts.items():
        take(folder / FOLDER / f"{key}.json", _links.text(text))


def read(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """{key: what was kept}; what cannot be read is left out."""
    found = {}
    for name in _links.names(folder / FOLDER):
        key = name.removesuffix(".json")
        try:
            text = _links.read(folder / FOLDER / name)
        except ValueError:
            continue
        if key != name and text is not None and isinstance(text.get("slopes"), Mapping):
            found[key] = text
    return found
