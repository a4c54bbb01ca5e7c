"""The loop of a worker: takes cohort after cohort of a study until nothing is left."""

import logging
import time
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise.sweeps._store import _claims
from headwise.sweeps._work import _compose

_LOG = logging.getLogger("headwise")
PAUSE = 0.5
"""Seconds between two looks at what other workers do."""

Text = Mapping[str, Any]
Compose = Callable[[list[str], list[Text]], dict[str, Any]]
"""(names of trials that are free, all cohorts) -> the text of the next one: `trials`,
their names; `rows`, the trials whole, so that any worker can finish it; `size`, `mode`,
and what else decides how it runs."""
CarryOut = Callable[[Any, Text], dict[str, Any] | None]
"""(claim, text of the cohort) -> None; or, where it is too large for the memory, the
text of the one that takes its place."""
Left = Callable[[], list[str]]
"""The names of trials that are not done, by anyone, in order."""


def work(
    store: Any,
    left: Left,
    compose: Compose,
    carry_out: CarryOut,
    *,
    more: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = _LOG.warning,
    cohorts: int | None = None,
) -> None:
    """Works on a study until these trials are done, by this worker or by others.

    Cohorts that are nobody's come first, those that another has are passed over; what
    no cohort has makes the next one. Where all that is left is another worker's, this
    one waits for its end, or for its death.

    Args:
        store: of `_store.open`.
        left, compose, carry_out: see above.
        more: asks for trials beyond those that there are, when no worker is needed for
            them any more; whether there are some.
        say: is told, once, that others are waited for.
        cohorts: after how many of its own this worker ends; None: with the last trial.
    """
    told, carried = False, 0
    while carried != cohorts and ((undone := left()) or more()):
        there = store.cohorts()
        standing = _compose.standing(undone, there)
        claim = _first(store, standing.open)
        if claim is None and standing.free:
            number, text = len(there), compose(standing.free, there)
            if not store.compose(number, text):
                continue  # another worker was faster: look again
            claim = store.claim(number)
        if claim is None:
            if not standing.free and more():
                continue
            if not told and not standing.free:
                where = "" if store.folder is None else f"{store.folder}: "
                say(f"{where}another process runs {len(undone)} trials of it: waiting")
                told = True
            time.sleep(PAUSE)
            continue
        told = False
        try:
            _carry_out(store, claim, carry_out)
        except _claims.LostClaim as error:
            store.event("lost", cohort=claim.number, why=str(error))
            _LOG.warning("%s: stopped there", error)
        else:
            carried += 1
        finally:
            claim.release()


def _first(store: Any, numbers: Sequence[int]) -> Any:
    """A claim on the first that nobody has; every worker begins with another one."""
    turn = zlib.crc32(str(store.worker).encode()) % len(numbers) if numbers else 0
    for number in [*numbers[turn:], *numbers[:turn]]:
        claim = store.claim(number)
        if claim is not None:
            return claim
    return None


def _carry_out(store: Any, claim: Any, carry_out: CarryOut) -> None:
    """A cohort to its end; or another one in its place, which is linked in turn."""
    instead = carry_out(claim, store.cohorts()[claim.number])
    if instead is not None:
        text = dict(instead, instead_of=claim.number)
        while not store.compose(len(store.cohorts()), text):
            claim.check()
