"""Which names of a trial are read by the functions that it is given to."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import cast

import jax

from headwise import _checks


class Reading(dict):
    """A trial, as the dict that it is, that knows which of its names were asked for.

    Who goes through all of it, or copies it, has asked for all. To JAX it is a dict.

    Example:
        >>> trial = Reading({"lr": 0.1, "decay": 0.0})
        >>> trial["lr"], "decay" in trial, sorted(trial.read)
        (0.1, True, ['decay', 'lr'])
    """

    def __init__(self, trial: Mapping[str, Any]) -> None:
        """Nothing of it is read as yet."""
        super().__init__(trial)
        self.read: set[Any] = set()

    def __getitem__(self, name: Any) -> Any:
        """The number of that name."""
        self.read.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: Any) -> bool:
        """Whether it has the name."""
        self.read.add(name)
        return super().__contains__(name)

    def get(self, name: Any, default: Any = None) -> Any:
        """The number of that name, if it has one."""
        self.read.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[Any]:
        """All names; `**trial` and `dict(trial)` come here, too."""
        return iter(self.copy())

    def copy(self) -> Any:
        """All of it, as a plain dict."""
        self.read.update(super().keys())
        return dict(zip(super().keys(), super().values(), strict=True))

    def keys(self) -> Any:
        """All names."""
        return self.copy().keys()

    def values(self) -> Any:
        """All numbers."""
        return self.copy().values()

    def items(self) -> Any:
        """All of it."""
        return self.copy().items()

    def setdefault(self, name: Any, default: Any = None) -> Any:
        """The number of that name, which it has then."""
        self.read.add(name)
        return super().setdefault(name, default)

    def pop(self, name: Any, *default: Any) -> Any:
        """Takes a number out."""
        self.read.add(name)
        return super().pop(name, *default)

    def __or__(self, other: Any) -> Any:
        """With more, as a plain dict."""
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        """Beneath it, as a plain dict."""
        return other | self.copy()


jax.tree_util.register_pytree_node(
    Reading,
    lambda trial: (
        tuple(x for _, x in sorted(trial.items())),
        tuple(sorted(trial.keys())),
    ),
    lambda names, rows: cast("Reading", dict(zip(names, rows, strict=True))),
)


def refuse_unread(trial: Mapping[str, Any], read: Collection[str]) -> None:
    """That trials differ in what nothing reads would make one training two rows.

    Raises:
        ValueError: a name of the trial is in `read` of none of its functions.
    """
    own = [name for name in trial if name not in ("weights", "seed")]
    unread = [name for name in own if name not in read]
    if unread:
        asked = [name for name in own if name in read]
        raise ValueError(
            f"vary: expected names that optimizer= or balancer= read of a trial"
            f"{f', as {_checks.listing(asked)} is' if asked else ''}; nothing reads "
            f"{_checks.listing(unread)}"
        )
