"""The contributions of a whole run, from its metrics."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from headwise import gradients


def mean_contributions(history: Iterable[Mapping[str, Any]]) -> gradients.Contributions:
    """Mean over a run of what each head contributed to every module.

    Args:
        history: records of `hw.training.fit` or `read_metrics`; those without
            contributions are passed over.

    Returns:
        `hw.gradients.Contributions`: means of norms, shares and cosines; `print` and
        `.plot()` show them.

    Raises:
        ValueError: no record holds contributions.

    Example:
        >>> trunk = {
        ...     "a": {"norm": 2.0, "share": 0.75},
        ...     "b": {"norm": 1.0, "share": 0.25},
        ...     "cosine": {"a|b": -0.5},
        ... }
        >>> c = mean_contributions([{"step": 1, "contributions": {"trunk": trunk}}])
        >>> print(c.modules, c.share, c.conflict)
        ('trunk',) [[0.75 0.25]] [-0.5]
    """
    known = [r["contributions"] for r in history if r.get("contributions")]
    if not known:
        raise ValueError("history: expected records with contributions, got none")
    modules = tuple(known[0])
    names = tuple(name for name in known[0][modules[0]] if name != "cosine")

    def mean(*path: str) -> float:
        values = []
        for contributions in known:
            value: Any = contributions
            for part in path:
                value = value[part]
            values.append(np.nan if value is None else value)
        return float(np.mean(values))

    norm = np.array([[mean(m, n, "norm") for n in names] for m in modules])
    share = np.array([[mean(m, n, "share") for n in names] for m in modules])
    cosine = np.zeros((len(modules), len(names), len(names)))
    for k, module in enumerate(modules):
        for i, a in enumerate(names):
            cosine[k, i, i] = float(norm[k, i] > 0)
            for j in range(i + 1, len(names)):
                both = mean(module, "cosine", f"{a}|{names[j]}")
                cosine[k, i, j] = cosine[k, j, i] = both
    arrays = (jnp.asarray(x, jnp.float32) for x in (norm, share, cosine))
    return gradients.Contributions(names, modules, *arrays)
