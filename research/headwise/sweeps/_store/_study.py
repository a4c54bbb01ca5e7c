"""What a study is: the text that all its workers share, and what differs from it."""

import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise import _orbax
from headwise import _provenance
from headwise import _records
from headwise.sweeps._store import _links

_SHOWN = 8


class StudyError(ValueError):
    """The folder cannot be used: it holds another study, or trials of another one."""


def check(folder: pathlib.Path, text: Mapping[str, Any]) -> bool:
    """Whether a folder holds this study; False if it holds none. Writes nothing.

    Raises:
        StudyError: it holds another one (what differs is named), or what it holds
            cannot be read.
    """
    path = folder / "study.json"
    try:
        found = _links.read(path)
    except ValueError as error:
        raise StudyError(f"{error} (give another folder)") from error
    if found is None:
        return False
    before = found.get("text")
    if not isinstance(before, Mapping):
        raise StudyError(f"{path}: is no study of Headwise (give another folder)")
    if lines := differences(before, text):
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise StudyError(
            f"folder {folder}: belongs to another study: "
            f"{'; '.join([*lines[:_SHOWN], *more])} (give another folder, or the same "
            "settings)"
        )
    return True


def begin(folder: pathlib.Path, text: Mapping[str, Any], take: _links.Take) -> None:
    """Writes what the study is, once; raises as `check` if another was faster."""
    made_with = _provenance.made_with()
    data = _links.text({"text": dict(text), "made_with": made_with})
    if not take(folder / "study.json", data):
        check(folder, text)


def plain(text: Mapping[str, Any]) -> dict[str, Any]:
    """The text as it comes back from a file; raises for what JSON cannot hold."""
    return json.loads(json.dumps(_records.json_settings(text)))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two texts: `settings.lr was 0.1, is 0.2`, a line each."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    lines = []
    for name in sorted({*old, *new}):
        was, is_ = (_shown(text, name) for text in (old, new))
        if was != is_:
            lines.append(f"{name} was {_short(was)}, is {_short(is_)}")
    return lines


def _leaves(text: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(text, Mapping) and text:
        for name, value in text.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, text


def _shown(leaves: Mapping[str, Any], name: str) -> str:
    return _records.canonical(leaves[name]) if name in leaves else "not set"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def local(folder: str | os.PathLike) -> pathlib.Path:
    """The path of a folder of this machine that can hold a study."""
    try:
        path = _files.local(folder).absolute()
    except ValueError as error:
        raise StudyError(f"folder {error}") from error
    if path.exists() and not path.is_dir():
        raise StudyError(f"folder {path}: expected a folder, found a file")
    if (reason := _orbax.refused(path)) is not None:
        raise StudyError(f"folder {path}: {reason}")
    return path
