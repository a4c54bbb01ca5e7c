"""Heads by modules over the time of a run: what each does to the parameters."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise.reports._page import _curves
from headwise.reports._page import _thin
from headwise.reports._page._contents import Run

_STEPS = 120
"""The most moments of a run."""
_PAIRS = 60
"""The most pairs of heads: those that conflict most in the mean."""


def run(one: Run) -> dict[str, Any]:
    """{"name", "heads", "t", "values", "weights", "modules", "moments", ...}.

    `moments` are those at which contributions were taken: {"t": [T], "norm" and
    "share": [T][modules][heads], "cosine": {"a|b": [T][modules]}}.
    """
    history = one.history
    heads = sorted({n for record in history for n in record.get("values") or {}})
    series = {
        f"{quantity}|{head}": [(r.get(quantity) or {}).get(head) for r in history]
        for quantity in _curves.QUANTITIES
        for head in heads
    }
    others = {
        name: [r.get(name) for r in history] for name in ("conflicts", "grad_norm")
    }
    arrays = {name: _array(values) for name, values in (series | others).items()}
    t = np.array([record.get("step", i) for i, record in enumerate(history)])
    kept = _thin.rows(np.stack([*arrays.values()], 1), _curves.ROWS)
    plain = {name: _curves.numbers(array[kept]) for name, array in arrays.items()}
    told: dict[str, Any] = {q: {} for q in _curves.QUANTITIES}
    for name in series:
        quantity, head = name.split("|", 1)
        told[quantity][head] = plain[name]
    return {
        "name": one.name,
        "routing": one.routing.split("\n\n")[0],
        "heads": heads,
        "t": t[kept].tolist(),
        **told,
        **{name: plain[name] for name in others},
        **_moments(history),
    }


def _moments(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [record for record in history if record.get("contributions")]
    if not known:
        return {"modules": [], "movers": [], "moments": None}
    places = np.unique(
        np.linspace(0, len(known) - 1, min(len(known), _STEPS)).astype(int)
    )
    known = [known[i] for i in places]
    modules = list(
        dict.fromkeys(m for record in known for m in record["contributions"])
    )
    first = known[-1]["contributions"][modules[0]]
    heads = sorted(name for name, entry in first.items() if "norm" in entry)
    shape = len(known), len(modules), len(heads)
    norm, share = np.zeros(shape), np.zeros(shape)
    pairs = [(a, b) for i, a in enumerate(heads) for b in heads[i + 1 :]]
    cosine = np.full((len(pairs), *shape[:2]), np.nan)
    for i, record in enumerate(known):
        for m, module in enumerate(modules):
            entries = record["contributions"].get(module, {})
            for h, head in enumerate(heads):
                entry = entries.get(head, {})
                norm[i, m, h] = _float(entry.get("norm"))
                share[i, m, h] = _float(entry.get("share"))
            for p, (a, b) in enumerate(pairs):
                cosine[p, i, m] = _float(_cosine(entries, a, b))
    mean = [np.nanmean(c) if np.isfinite(c).any() else np.inf for c in cosine]
    kept = sorted(np.argsort(mean, kind="stable")[:_PAIRS].tolist())
    return {
        "modules": modules,
        "movers": heads,
        "moments": {
            "t": [record.get("step", i) for i, record in enumerate(known)],
            "norm": _nested(norm),
            "share": _nested(share),
            "pairs": [" | ".join(pairs[p]) for p in kept],
            "all": len(pairs),
            "cosine": _nested(cosine[kept]),
        },
    }


def _cosine(entries: Mapping[str, Any], a: str, b: str) -> Any:
    for one, other in ((a, b), (b, a)):
        found = (entries.get(one, {}).get("cosine") or {}).get(other)
        if found is not None:
            return found
    return (entries.get("cosine") or {}).get(f"{a}|{b}")


def _float(value: Any) -> float:
    return np.nan if value is None else float(value)


def _array(values: Sequence[Any]) -> np.ndarray:
    return np.array([_float(value) for value in values])


def _nested(array: np.ndarray) -> Any:
    if array.ndim == 1:
        return [float(f"{x:.4g}") if np.isfinite(x) else None for x in array]
    return [_nested(part) for part in array]
