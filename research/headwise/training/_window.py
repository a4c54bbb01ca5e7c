"""The window of a record: sums over its steps, and an error at what is not finite.

Sums add up, so it does not matter where the loop stops on its way through a window. A
window is plain JSON: a checkpoint in the middle of one keeps it, and a run that goes on
from there makes the same record, bit for bit.
"""

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from headwise import _means
from headwise.training import _record

Window = dict[str, Any]


def empty() -> Window:
    """That of no step."""
    return {
        "heads": {},
        "steps": 0,
        "grad_norm": 0.0,
        "conflicts": 0.0,
        "pairs": 0,  # steps that know of conflicts
        "contributions": None,
        "changed": [],
        "skipped": 0,
        "loss_scale": None,
    }


_HEAD = {
    "total": 0.0,  # Σ count * value over the steps in which the head is there
    "count": 0.0,
    "weight": 0.0,
    "there": 0,  # steps
    "data": 0,  # steps in which it is there or broken
    "broken": 0,
    "since": None,  # the first step in which it is broken
}


def added(window: Window, done: int, infos: Sequence[_record.Info]) -> Window:
    """The window with more steps, the last of them number `done`.

    Of a step that a loss scale skipped nothing counts but that.

    Raises:
        NonFiniteError: at the first step in which a value of a head with a weight, the
            gradient, or all that has data is not finite.
    """
    infos = jax.device_get(list(infos))
    window = copy.deepcopy(window)
    for at, info in enumerate(infos, done - len(infos)):
        for name in info.values:
            window["heads"].setdefault(name, dict(_HEAD))
        scale = getattr(info, "loss_scale", None)
        if scale is not None:
            window["loss_scale"] = float(scale)
        if getattr(info, "skipped", None):
            window["skipped"] += 1
            continue
        _refuse_non_finite(at, info)
        window["steps"] += 1
        window["grad_norm"] += float(info.grad_norm)
        counts = _means.tally_of(info.values).counts
        for name in info.values:
            _add(window["heads"][name], at, name, info, counts.get(name, 1.0))
        # Of a balancer that needs values alone, only the reporting steps know
        # conflicts; of one that is refreshed now and then they are NaN between.
        if info.conflicts is not None and np.isfinite(info.conflicts):
            window["conflicts"] += float(info.conflicts)
            window["pairs"] += 1
        newest = _record.contributions(info.contributions)
        window["contributions"] = newest or window["contributions"]
    return window


def refuse_broken(window: Window) -> None:
    """Raises if a head that has data was broken in all (two or more) of its steps.

    A balancer leaves out a head that is not finite, so that the gradient stays finite
    and nothing else would say it.

    Raises:
        NonFiniteError: it names the first of these steps.
    """
    for name, head in window["heads"].items():
        if head["broken"] > 1 and head["broken"] == head["data"]:
            raise _record.NonFiniteError(
                head["since"],
                f"the value or gradient of head {name!r}, there and in all "
                f"{head['data']} steps of a record in which it has data,",
                [name],
            )


def told(window: Window, whole: bool) -> Window:
    """What is left of a window once its record is made: nothing, if it was whole.

    The record at the end of a run may close it early. A run that goes on from there
    makes the records that it would have made without an end.
    """
    return empty() if whole else window | {"changed": []}


def to_text(window: Window) -> str:
    """The window as JSON; numbers come back as they are."""
    return json.dumps(window)


def from_text(text: str | None) -> Window:
    """What `to_text` was given; the empty window for None."""
    return empty() if text is None else empty() | json.loads(text)


def _add(
    head: dict[str, Any], at: int, name: str, info: _record.Info, count: Any
) -> None:
    here, broken = _here(name, info), _broken(name, info)
    if here:
        head["there"] += 1
        head["weight"] += float(info.weights[name])
        if count != 0:
            head["total"] += float(count) * float(info.values[name])
            head["count"] += float(count)
    if here or broken:
        head["data"] += 1
    if broken:
        head["broken"] += 1
        head["since"] = at if head["since"] is None else head["since"]


def _refuse_non_finite(at: int, info: _record.Info) -> None:
    for name, value in info.values.items():
        if not math.isfinite(value) and info.weights[name] != 0:
            raise _record.NonFiniteError(at, f"the value of head {name!r}", [name])
    if not math.isfinite(info.grad_norm):
        raise _record.NonFiniteError(at, "the gradient")
    if getattr(info, "broken", None) is None:
        return
    with_data = [n for n in info.values if _broken(n, info) or _here(n, info)]
    if with_data and all(_broken(name, info) for name in with_data):
        heads = ", ".join(map(repr, with_data))
        what = f"the value or gradient of every head that has data ({heads})"
        raise _record.NonFiniteError(at, what, with_data)


def _here(name: str, info: _record.Info) -> bool:
    present = getattr(info, "present", None)
    return present is None or bool(present[name])


def _broken(name: str, info: _record.Info) -> bool:
    broken = getattr(info, "broken", None)
    return broken is not None and bool(broken[name])
