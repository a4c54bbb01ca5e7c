"""Means and differences over seeds, with intervals that do not promise too much."""

import warnings

import numpy as np

FEWEST = 4
"""Values below which neither an interval nor a middle half is told."""
_RESAMPLES = 9999


def iqm(values: np.ndarray) -> float:
    """Mean of the middle half, of four values or more; infinite ones are outermost.

    References:
        Agarwal et al., "Deep reinforcement learning at the edge of the statistical
        precipice", NeurIPS 2021, section 4.3.
    """
    if len(values) < FEWEST:
        return np.nan
    cut = len(values) // 4
    middle = np.sort(values)[cut : len(values) - cut]
    with np.errstate(invalid="ignore"):
        return float(np.mean(middle))


def of_mean(values: np.ndarray, level: float) -> tuple[float, float]:
    """The interval of a mean, of four values or more: BCa bootstrap.

    With infinite values, plain percentiles of the resampled means, which may be
    infinite. The same numbers each time.

    References:
        Efron, "Better bootstrap confidence intervals", JASA 1987.
    """
    # Imported here: it costs every `import headwise` 0.8 s otherwise.
    from scipy import stats

    if len(values) < FEWEST or np.any(np.isnan(values)):
        return np.nan, np.nan
    if np.all(values == values[0]):
        return float(values[0]), float(values[0])
    rng = np.random.default_rng(0)
    if not np.all(np.isfinite(values)):
        draws = rng.choice(values, (_RESAMPLES, len(values)))
        with np.errstate(invalid="ignore"):
            means = draws.mean(axis=1)
        # What is lost on the one side and on the other may be anything.
        low, high = (np.where(np.isnan(means), x, means) for x in (-np.inf, np.inf))
        return (
            float(np.quantile(low, level / 2, method="inverted_cdf")),
            float(np.quantile(high, 1 - level / 2, method="inverted_cdf")),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degenerate ones, which are looked at here
        found = [
            stats.bootstrap(
                (values,),
                np.mean,
                confidence_level=1 - level,
                n_resamples=_RESAMPLES,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
            for method in ("BCa", "percentile")
        ]
    best = next(i for i in found if np.all(np.isfinite(i)))
    return float(best.low), float(best.high)


def paired(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Differences by pair; 0 where both are lost."""
    difference = np.zeros(len(first))
    np.subtract(first, second, out=difference, where=first != second)
    return difference


def held_out(costs: np.ndarray) -> np.ndarray:
    """[pairs]: worst less best of each pair, where the others say which these are.

    The best and the worst of many rows look better and worse than they are, where they
    are looked for (the winner's curse); in a pair that had no say they do not.
    """
    found = []
    for i in range(costs.shape[1]):
        others = np.delete(costs, i, axis=1).mean(axis=1)
        rows = [int(np.argmax(others))], [int(np.argmin(others))]
        found.append(paired(*(costs[row, i] for row in rows))[0])
    return np.array(found)
