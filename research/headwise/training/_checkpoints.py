"""Checkpoints of a run, with orbax: atomic, asynchronous, the newest few kept."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.training import _described
from headwise.training import _workdir
from headwise.typing import PyTree


class Checkpoints:
    """The checkpoints of one folder; a context manager that waits for open writes.

    Args:
        folder: made if it is not there.
        keep: how many of the newest are kept.

    Raises:
        ValueError: `keep` is no positive int.

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
        # Imported here: orbax costs every `import headwise` 0.2 s otherwise.
        from orbax.checkpoint import v1 as ocp

        policy = ocp.training.preservation_policies.LatestN(keep)
        self.folder = pathlib.Path(folder).absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self.folder, preservation_policy=policy
        )
        self._pending: Any = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: Any) -> None:
        self.wait()
        self._checkpointer.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest finished checkpoint, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, step: int, state: PyTree, note: Any = None) -> None:
        """Starts to write; the folder shows the checkpoint when it is whole.

        Args:
            step: of the state.
            state: pytree of arrays and numbers; typed keys are fine.
            note: kept beside it, anything that JSON can hold.
        """
        self.wait()
        state = jax.tree.map(jnp.asarray, state)
        kept = {"note": note, "state": _described.describe(state)}
        named = _by_name(state, jax.tree.leaves(state))
        self._pending = self._checkpointer.save_async(
            step, named, force=True, overwrite=True, custom_metadata=kept
        )

    @property
    def note(self) -> Any:
        """The note of the newest checkpoint, None if it has none."""
        return self._kept().get("note")

    def wait(self) -> None:
        """Waits until the last `save` is on disk."""
        if self._pending is not None and not isinstance(self._pending, bool):
            self._pending.result()
        self._pending = None

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
            with self._reading():
                tree = self._checkpointer.metadata(self.latest).metadata
                if not jax.tree.leaves(tree):
                    raise ValueError("no names of arrays")
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
        wanted: Any = _by_name(like, list(map(_abstract, leaves)))
        if tree is not None:
            rows = [wanted[name] for name in _described.names(tree)]
            wanted = jax.tree.unflatten(jax.tree.structure(tree), rows)
        with self._reading():
            loaded = self._checkpointer.load(self.latest, wanted)
        found = _by_name(loaded, jax.tree.leaves(loaded))
        named = zip(_described.names(like), leaves, strict=True)
        return jax.tree.unflatten(structure, [found.get(n, x) for n, x in named])

    def _kept(self) -> dict[str, Any]:
        if self.latest is None:
            return {}
        with self._reading():
            return self._checkpointer.metadata(self.latest).custom_metadata or {}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Says in one line which checkpoint cannot be read, why, and the way out."""
        try:
            yield
        except Exception as error:
            reason: BaseException = error
            while reason.__cause__ is not None:
                reason = reason.__cause__
            steps = [found.step for found in self._checkpointer.checkpoints]
            older = [step for step in steps if step < self.latest]
            out = f"remove it to go on from step {max(older)}, or " if older else ""
            raise _workdir.WorkdirError(
                f"{self.folder / str(self.latest)}: is damaged, or of another state "
                f"({type(reason).__name__}: {str(reason)[:200]}); {out}give another "
                "folder"
            ) from error


def _by_name(tree: PyTree, leaves: Sequence[Any]) -> dict[str, Any]:
    """{name: leaf}. What is empty is left out: the files could not hold it."""
    named = zip(_described.names(tree), leaves, strict=True)
    return {name: x for name, x in named if x.size}


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
