"""Curves of cohorts: chunks of rows that never change, and a trial's part of them.

A chunk is `curves/000003/1200.0.npz`: for each name an array whose first axis are rows,
whose second axis are members where there is one. `t` says at which steps they were. The
second number is that of the claim: a worker that goes on from a checkpoint has no rows
of the trials that were done, and must not replace those that are there.
"""

import io
import logging
import pathlib
import re
import zipfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _columns
from headwise import _files

_LOG = logging.getLogger("headwise")
_NAME = re.compile(r"(\d+)(?:\.(\d+))?\.npz")  # older ones have no claim


def write(path: pathlib.Path, chunk: Mapping[str, Any]) -> None:
    """Writes a chunk, whole or not at all; nested names are joined by "/".

    Raises:
        OSError: the disk refuses it; one line.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, array in _columns.flat(chunk):
            with file.open(f"{name}.npy", "w") as one:
                np.lib.format.write_array(one, _plain(array), allow_pickle=False)
    with _files.writing(path):
        path.parent.mkdir(exist_ok=True)  # that of all cohorts is there, or gone
        _files.write_atomically(path, data.getvalue())


def read(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
    """The chunks of a cohort in their order; damaged ones are left out, told."""
    chunks = []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("*.npz")]
    order = [(int(name[1]), int(name[2] or 0), path) for name, path in found if name]
    for _, _, path in sorted(order):
        try:
            data = io.BytesIO(path.read_bytes())
            with np.load(data, allow_pickle=False) as file:
                chunks.append({name: file[name] for name in file.files})
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            reason = _files.reason(error)[1]
            _LOG.warning("%s: cannot be read (%s), left out", path, reason)
    return chunks


def of_member(
    chunks: Sequence[Mapping[str, np.ndarray]], trials: Sequence[str], trial: str
) -> dict[str, np.ndarray]:
    """The rows of one trial, each step once, in the order of the steps.

    Args:
        chunks: of its cohort. `t` is [rows] or [rows, K]; a step below 0 is no row.
            A chunk whose members are others than the cohort's says so in `trials`.
        trials: keys of the members, in order; more members than keys are padding.
        trial: the key.

    Returns:
        {"t": [rows], name: [rows, ...]}.
    """
    parts: list[dict[str, np.ndarray]] = []
    for chunk in chunks:
        members = list(chunk["trials"]) if "trials" in chunk else list(trials)
        if trial not in members or "t" not in chunk:
            continue
        at, rows = members.index(trial), len(chunk["t"])
        part = {}
        for name, array in chunk.items():
            if name != "trials" and array.ndim and len(array) == rows:
                shared = array.ndim == 1 or array.shape[1] < len(members)
                part[name] = array if shared else array[:, at]
        parts.append(part)
    if not parts:
        return {}
    names = [name for name in parts[0] if all(name in part for part in parts)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in names}
    t = whole["t"]
    # Of a step that is there twice (a worker trained it again) the last row counts.
    last = {int(step): row for row, step in enumerate(t) if step >= 0}
    order = [last[step] for step in sorted(last)]
    return {name: array[order] for name, array in whole.items()}


def nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Names that were joined by "/" as dicts in dicts again."""
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = map(_columns.part, name.split("/"))
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def _plain(array: Any) -> np.ndarray:
    """An array of NumPy's own types: half precision of others is float32."""
    array = np.asarray(array)
    if array.dtype.kind == "U" or array.dtype.isbuiltin == 1:
        return array
    return array.astype(np.float32)
