"""Checkpoints of a run, with orbax: atomic, asynchronous, the newest few kept."""

import os
import pathlib
from typing import Any

import jax

from headwise import _checks
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
        self._checkpointer = ocp.training.Checkpointer(
            pathlib.Path(folder).absolute(), preservation_policy=policy
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
            state: pytree of arrays; typed keys are fine.
            note: kept beside it, anything that JSON can hold.
        """
        self.wait()
        self._pending = self._checkpointer.save_async(
            step, state, force=True, overwrite=True, custom_metadata={"note": note}
        )

    @property
    def note(self) -> Any:
        """The note of the newest checkpoint, None if it has none."""
        if self.latest is None:
            return None
        metadata = self._checkpointer.metadata(self.latest).custom_metadata
        return (metadata or {}).get("note")

    def wait(self) -> None:
        """Waits until the last `save` is on disk."""
        if self._pending is not None and not isinstance(self._pending, bool):
            self._pending.result()
        self._pending = None

    def restore(self, like: PyTree) -> PyTree:
        """The newest checkpoint, with structure, dtypes and placement of `like`.

        Args:
            like: pytree of arrays, such as the first state.

        Returns:
            The state that was saved.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.latest is None:
            raise FileNotFoundError("no checkpoint to restore")
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        return self._checkpointer.load(self.latest, abstract)
