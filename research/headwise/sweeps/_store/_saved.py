"""Checkpoints of cohorts: a folder a claim, and the newest whole one of all of them.

Every claim writes into a folder of its own (`ckpt/000003.1`, with orbax), so that who
lost a claim and does not know it yet cannot spoil what its heir writes. The one before
stays until the next is whole.
"""

import contextlib
import functools
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _described
from headwise import _files
from headwise import _orbax
from headwise import _whole
from headwise.sweeps._store import _study
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")
_SPARE = 2**20
"""Bytes that are asked of the disk beside those of a checkpoint."""


class Saved:
    """The checkpoints of one worker; reads those of all.

    Args:
        folder: `ckpt` of a study, absolute.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._open: dict[str, _Writer] = {}

    def save(self, claim: str, step: int, tree: PyTree) -> None:
        """Starts to write; waits for the one before. `claim` is `000003.1`.

        Raises:
            OSError: the disk refuses it, or is too full for it; one line. What was
                there stays as it was.
        """
        if claim not in self._open:
            with _files.writing(self._folder):
                (self._folder / claim).mkdir(exist_ok=True)
            self._open[claim] = _Writer(self._folder / claim)
        with self._fresh_after_errors(claim):
            self._open[claim].save(step, tree)

    def wait(self, claim: str) -> None:
        """Waits until the last `save` of a claim is on disk; raises as `save`."""
        if claim in self._open:
            with self._fresh_after_errors(claim):
                self._open[claim].wait()

    @contextlib.contextmanager
    def _fresh_after_errors(self, claim: str) -> Iterator[None]:
        """A checkpointer that failed once would say so for ever."""
        try:
            yield
        except Exception:
            with contextlib.suppress(Exception):
                self._open.pop(claim).close()
            raise

    def close(self, claim: str, remove: bool = False) -> None:
        """Waits for what is written; `remove` drops this claim's own checkpoints."""
        if (writer := self._open.pop(claim, None)) is not None:
            writer.close()
        if remove:
            shutil.rmtree(self._folder / claim, ignore_errors=True)

    def close_all(self) -> None:
        """Waits for all; the first error is raised when all are closed."""
        with contextlib.ExitStack() as stack:
            for claim in list(self._open):
                stack.callback(self.close, claim)

    def restore(self, number: int, like: PyTree) -> tuple[PyTree, int] | None:
        """The newest whole checkpoint of a cohort by any claim, and its step.

        Args:
            number: of the cohort.
            like: pytree of arrays or `jax.ShapeDtypeStruct`.

        Returns:
            (state, step), or None. A damaged checkpoint is passed over with a word.

        Raises:
            StudyError: there are whole ones, all of another state; says what differs.
        """
        now, foreign = _described.describe(like), []
        for step, path in self._newest(number):
            from orbax.checkpoint import v1 as ocp  # late: it takes 0.2 s

            look = _whole.look(path, functools.partial(ocp.metadata, path))
            if look.damage is not None:
                _LOG.warning("%s: is damaged (%s), passed over", path, look.damage)
                continue
            if lines := _described.differences(look.kept["state"], now):
                foreign.append((path, lines))
                continue
            try:
                found = _load(path, like)
            except Exception as error:
                reason = _files.reason(error)[1]
                _LOG.warning("%s: cannot be read (%s), passed over", path, reason)
                continue
            for other, _ in foreign:
                _LOG.warning("%s: is of another program, passed over", other)
            return found, step
        if foreign:
            path, lines = foreign[0]
            raise _study.StudyError(
                f"{path}: the checkpoint is of another program: "
                f"{'; '.join(_described.listing(lines))} (give another folder)"
            )
        return None

    def _newest(self, number: int) -> list[tuple[int, pathlib.Path]]:
        found = [
            (int(path.name), int(folder.name.rpartition(".")[2]), path)
            for folder in self._folder.glob(f"{number:06d}.*")
            for path in folder.iterdir()
            if path.name.isdigit() and path.is_dir()
        ]
        return [(step, path) for step, _, path in sorted(found, reverse=True)]


class _Writer:
    """Writes the checkpoints of one claim."""

    def __init__(self, folder: pathlib.Path):
        self._folder, self._step = folder, -1
        self._pending: Any = None
        self._checkpointer = _orbax.open_checkpointer(
            folder, 2, lambda: _whole.seal(folder, self._step)
        )

    def save(self, step: int, tree: PyTree) -> None:
        self.wait()
        tree = jax.tree.map(jnp.asarray, tree)
        kept = {"state": _described.describe(tree)}
        with _files.writing(self._folder / str(step)):
            reserve(self._folder, sum(x.nbytes for x in jax.tree.leaves(tree)))
            self._step = step
            self._pending = self._checkpointer.save_async(
                step,
                _orbax.by_name(tree, jax.tree.leaves(tree)),
                force=True,
                overwrite=True,
                custom_metadata=_whole.summed(kept),
            )

    def wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            with _files.writing(self._folder / str(self._step)):
                pending.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # it has been told
                self._checkpointer.close()


def reserve(folder: pathlib.Path, nbytes: int) -> None:
    """Raises OSError unless the disk has room for so many bytes and some more.

    The file that asks for it has no name: a kill leaves nothing of it.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, nbytes + _SPARE)
        else:
            file.write(bytes(_SPARE))


def _load(path: pathlib.Path, like: PyTree) -> PyTree:
    from orbax.checkpoint import v1 as ocp

    leaves, structure = jax.tree.flatten(like)
    wanted = _orbax.by_name(like, [_orbax.like(x) for x in leaves])
    found = ocp.load(path, wanted)
    named = zip(_described.names(like), leaves, strict=True)
    return jax.tree.unflatten(
        structure,
        [found[n] if n in found else jnp.zeros(x.shape, x.dtype) for n, x in named],
    )
