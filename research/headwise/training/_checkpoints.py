"""Checkpoints of a run, with orbax: atomic, asynchronous, the newest few kept."""

import contextlib
import functools
import logging
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _described
from headwise import _files
from headwise import _hosts
from headwise import _orbax
from headwise import _whole
from headwise.training import _workdir
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")


class Checkpoints:
    """The checkpoints of one folder; a context manager that waits for open writes.

    Args:
        folder: made if it is not there.
        keep: how many of the newest are kept.

    Raises:
        ValueError: `keep` is no positive int.
        WorkdirError: `folder` is a file, an address, or cannot be made.

    Example:
        >>> import tempfile
        >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
        ...     checkpoints.save(3, {"w": jnp.arange(2.0)})
        ...     checkpoints.wait()
        ...     print(checkpoints.latest)
        ...     print(checkpoints.restore({"w": jnp.zeros(2)}))
        3
        {'w': Array([0., 1.], dtype=float32)}
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        _checks.positive_int("keep", keep)
        path = _workdir.folder_of(folder).absolute()
        self.folder = _hosts.of_first(lambda: _workdir.for_checkpoints(path))
        self._checkpointer = _orbax.open_checkpointer(
            self.folder, keep, lambda: _whole.seal(self.folder, self._saving)
        )
        self._pending: Any = None
        self._saving = -1
        self._read_back = False
        self._looked: dict[int, _whole.Look] = {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            # Where one process has failed, the others do not come here to agree.
            self._wait() if error[0] else self.wait()
        except Exception:
            if error[0] is None:  # else what happened first is told
                raise
        finally:
            with contextlib.suppress(Exception):  # it has been told
                self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest finished checkpoint that is whole, or None.

        A damaged one (a file is missing, or not as it was written) is passed over,
        which is told (logger `headwise`); the next `save` moves it aside.

        Raises:
            WorkdirError: there are some, and none is whole.
        """
        self.wait() if _hosts.several() else self.poll()
        steps = self._steps()
        for step in steps:
            if self._look(step).damage is None:
                return step
        if steps:
            newest = self.folder / str(steps[0])
            raise _workdir.WorkdirError(
                f"{newest}: is damaged ({self._look(steps[0]).damage}), and no older "
                "checkpoint is whole; give another folder"
            )
        return None

    def save(self, step: int, state: PyTree, note: Any = None) -> None:
        """Starts to write; the folder shows the checkpoint when it is whole.

        Args:
            step: of the state.
            state: pytree of arrays and numbers; typed keys are fine.
            note: kept beside it, anything that JSON can hold.

        Raises:
            OSError: the disk refuses it, or the checkpoint before it.
        """
        self.wait()
        self._set_aside()
        self._looked.pop(step, None)
        state = jax.tree.map(lambda x: _hosts.everywhere(jnp.asarray(x)), state)
        kept = {"note": note, "state": _described.describe(state)}
        named = _orbax.by_name(state, jax.tree.leaves(state))
        self._saving = step
        with _files.writing(self.folder / str(step)):
            self._pending = self._checkpointer.save_async(
                step,
                named,
                force=True,
                overwrite=True,
                custom_metadata=_whole.summed(kept),
            )

    @property
    def note(self) -> Any:
        """The note of the newest checkpoint, None if it has none."""
        return self._kept().get("note")

    def wait(self) -> None:
        """Waits until the last `save` is on disk.

        Raises:
            OSError: the disk refused it; names the folder and why, in one line.
        """
        error: Exception | None = None
        try:
            self._wait()
        except Exception as raised:
            error = raised
        _hosts.agreed(error=error)

    def _wait(self) -> None:
        """As `wait`, without a word to other processes."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        with _files.writing(self.folder / str(self._saving)):
            pending.result()
            if not self._read_back:  # once: what goes wrong here always does
                self._read_back = True
                _orbax.metadata(self._checkpointer, self._saving)

    def poll(self) -> None:
        """Raises what stopped a `save` that has ended since; waits for none.

        Of several processes one may be done sooner: they hear of it in the next `save`.
        """
        if self._pending is None or _hosts.several():
            return
        if not self._checkpointer.is_saving_in_progress():
            self.wait()

    def restore(self, like: PyTree, others: Sequence[str] = ()) -> PyTree:
        """The newest checkpoint, with structure, dtypes and placement of `like`.

        Its leaves are found by their names (`params/trunk/kernel`).

        Args:
            like: pytree of arrays, such as the first state.
            others: what else is known to differ from the checkpoint, in words.

        Returns:
            The state that was saved, as JAX arrays.

        Raises:
            FileNotFoundError: there is none.
            WorkdirError: the checkpoint is of another state (names, shapes, dtypes and
                types of states that differ are listed, and `others`), or damaged.
        """
        if self.latest is None:
            raise FileNotFoundError("no checkpoint to restore")
        like = jax.tree.map(jnp.asarray, like)
        now, saved, tree = _described.describe(like), self._kept().get("state"), None
        if saved is None:  # an older one: the tree itself, without types
            tree = _orbax.metadata(self._checkpointer, self.latest).metadata
            saved = now | {"leaves": _described.describe(tree)["leaves"]}
            keys = {n: x for n, x in now["leaves"].items() if x.startswith("key<")}
            saved["leaves"] |= {n: x for n, x in keys.items() if n in saved["leaves"]}
        lines = [*others, *_described.differences(saved, now)]
        if lines:
            raise _workdir.WorkdirError(
                f"{self.folder}: the checkpoint of step {self.latest} is of another "
                "run:\n  "
                + ";\n  ".join(_described.listing(lines))
                + "\n(give another folder)"
            )
        leaves, structure = jax.tree.flatten(like)
        wanted: Any = _orbax.by_name(like, list(map(_orbax.like, leaves)))
        if tree is not None:
            rows = [wanted[name] for name in _described.names(tree)]
            wanted = jax.tree.unflatten(jax.tree.structure(tree), rows)
        loaded = self._load(self.latest, wanted)
        found = _orbax.by_name(loaded, jax.tree.leaves(loaded))
        named = zip(_described.names(like), leaves, strict=True)
        rows = [_orbax.free(found.get(n, x), x) for n, x in named]
        return jax.tree.unflatten(structure, rows)

    def _kept(self) -> Mapping[str, Any]:
        return {} if self.latest is None else self._look(self.latest).kept

    def _steps(self) -> list[int]:
        """Of all checkpoints, the newest first, but for one that is being written."""
        writing = None if self._pending is None else self._saving
        found = [one.step for one in self._checkpointer.checkpoints]
        steps = (step for step in _hosts.shared(found) if step != writing)
        return sorted(steps, reverse=True)

    def _look(self, step: int) -> _whole.Look:
        if step not in self._looked:
            folder = self.folder / str(step)
            read = functools.partial(_orbax.metadata, self._checkpointer, step)
            look = _hosts.of_first(functools.partial(_whole.look, folder, read))
            if look.damage is not None:
                _LOG.warning("%s: is damaged (%s) and passed over", folder, look.damage)
            self._looked[step] = look
        return self._looked[step]

    def _set_aside(self) -> None:
        """Renames what is damaged: it would count among the newest that are kept."""
        damaged = [step for step, look in self._looked.items() if look.damage]
        for step in damaged:
            _hosts.of_first(
                functools.partial(_whole.put_aside, self.folder / str(step))
            )
            del self._looked[step]
        if damaged:
            self._checkpointer.reload()

    def _load(self, step: int, wanted: PyTree) -> PyTree:
        """Says in one line which checkpoint cannot be read, why, and the way out."""
        try:
            return self._checkpointer.load(step, wanted)
        except Exception as error:
            older = [s for s in self._steps() if s < step and not self._look(s).damage]
            out = f"remove it to go on from step {older[0]}, or " if older else ""
            raise _workdir.WorkdirError(
                f"{self.folder / str(step)}: is damaged, or of another state "
                f"({_files.reason(error)[1]}); {out}give another folder"
            ) from error
