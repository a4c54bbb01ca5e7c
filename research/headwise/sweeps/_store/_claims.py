"""Which worker trains a cohort: claims that are linked once, and taken over by epochs.

`claims/000003.0` is the first claim on cohort 3, `.1` that of who took it over, and so
on: the highest one owns it. It may be taken over when its owner left it in order
(`claims/000003.0.left`), is gone for certain (a process of this machine), or stood
still for long enough. An owner that only seemed dead finds the higher claim when it
looks, and stops. Nothing is ever removed.
"""

import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from headwise.sweeps._store import _beats
from headwise.sweeps._store import _links
from headwise.sweeps._store import _processes

_NAME = re.compile(r"(\d{6,})\.(\d+)(\.left)?")


class LostClaim(RuntimeError):  # noqa: N818
    """Another worker has taken a cohort over: stop, and write nothing more of it."""


class Claim:
    """A cohort that is this worker's, until it is released or lost.

    `number` is the cohort's, `epoch` how often it was taken over.
    """

    def __init__(self, claims: "Claims", number: int, epoch: int):
        self._claims, self.number, self.epoch = claims, number, epoch
        self.lost, self.released = False, False

    @property
    def name(self) -> str:
        """`000003.0`."""
        return f"{self.number:06d}.{self.epoch}"

    def beat(self, word: str = "running", **numbers: Any) -> None:
        """Says what is done (`running`, `compiling`) and how far it is.

        Raises LostClaim if it is lost.
        """
        self.check()
        self._claims.beats.say(self.name, word, **numbers)

    def check(self) -> None:
        """Raises LostClaim if a higher epoch is there, from then on always."""
        self.lost = self.lost or self._claims.newest(self.number)[0] > self.epoch
        if self.lost:
            self._claims.beats.say(self.name, None)
            raise LostClaim(
                f"cohort {self.number}: another worker has taken it over, since this "
                "one had not been heard of for too long"
            )

    def release(self) -> None:
        """Lets go, so that another worker may take the cohort at once."""
        if not self.lost and not self.released:
            self.released = True
            self._claims.leave(self)


class Claims:
    """The claims in a folder, as one worker sees and makes them.

    Args:
        folder: `claims` of a study.
        take: how names are taken there (`_links.way`).
        who: this worker and its process; kept in each claim.
        beats: its signs of life.
        read: what a worker's sign of life is, by its name.
        stale: seconds after which one that stands still counts as dead.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        take: _links.Take,
        who: Mapping[str, Any],
        beats: _beats.Beats,
        read: Callable[[str], Mapping[str, Any] | None],
        stale: float,
    ):
        self._folder, self._take, self._who = folder, take, dict(who)
        self.beats, self._stale = beats, stale
        self._watch = _beats.Watch(read)
        self._held: dict[int, Claim] = {}

    def take(self, number: int) -> Claim | None:
        """A new claim on a cohort; None while another has it. Never waits."""
        epoch, left = self.newest(number)
        if epoch >= 0 and not left and self._is_held(number, epoch):
            return None
        path = self._folder / f"{number:06d}.{epoch + 1}"
        if not self._take(path, _links.text(self._who)):
            return None  # somebody was faster
        claim = self._held[number] = Claim(self, number, epoch + 1)
        self.beats.say(claim.name, "running")
        return claim

    def held(self, number: int) -> Claim | None:
        """The claim on a cohort that is held already."""
        claim = self._held.get(number)
        return None if claim is None or claim.lost or claim.released else claim

    def newest(self, number: int) -> tuple[int, bool]:
        """The highest epoch of a cohort, -1 if there is none; whether it was left."""
        names = _links.names(self._folder, f"{number:06d}.")
        return _newest(names).get(number, (-1, False))

    def leave(self, claim: Claim) -> None:
        """Writes that a claim is left."""
        self._take(self._folder / f"{claim.name}.left", _links.text(self._who))
        self.beats.say(claim.name, None)

    def close(self) -> None:
        """Leaves all that is held."""
        for claim in self._held.values():
            claim.release()

    def _is_held(self, number: int, epoch: int) -> bool:
        """Whether the owner may be alive."""
        name = f"{number:06d}.{epoch}"
        try:
            owner = _links.read(self._folder / name) or {}
        except ValueError:  # whose it is nobody can tell: it is waited for
            owner = {}
        if _processes.is_gone(owner):
            return False
        return self._watch.still(owner.get("worker") or name) < self._stale


def newest(folder: pathlib.Path) -> dict[int, tuple[int, bool]]:
    """{cohort: its highest epoch, whether that was left} of a folder of claims."""
    return _newest(_links.names(folder))


def _newest(names: Iterable[str]) -> dict[int, tuple[int, bool]]:
    found: dict[int, tuple[int, bool]] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            one = (int(match[2]), match[3] is not None)
            found[int(match[1])] = max(found.get(int(match[1]), (-1, False)), one)
    return found
