"""What sharing costs: the mean relative change against training each head alone."""

from collections.abc import Mapping
from collections.abc import Sequence

from headwise import _checks

SIGNS = ("drop", "gain")


def delta_m(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    higher: Mapping[str, bool],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    sign: str = "drop",
) -> float:
    """Mean relative drop against a baseline, in percent; lower is better.

    ::

        delta_m = 100 / M * Σ_m s_m (metric_m - baseline_m) / |baseline_m|

    with s = -1 where higher is better and 1 where lower is. With groups it is the mean
    over the groups of the means within.

    Conventions: the sign is that of Nash-MTL and FAMO, `sign="gain"` that of Maninis
    et al., Vandenhende et al. and LibMTL, where higher is better. Nash-MTL and FAMO
    take the mean over all metrics (of NYUv2 5 of 9 are of normals), LibMTL that over
    the heads (`groups`), Vandenhende et al. one metric a head. LibMTL's baseline is the
    first epoch unless another is given.

    Args:
        metrics: {name: value} of the multi-task model.
        baseline: the same names, of single-task training.
        higher: {name: whether more is better}.
        groups: {head: names of its metrics}, each metric once. None: all count alike.
        sign: `"drop"`, lower is better, or `"gain"`, higher is better.

    Returns:
        Percent.

    Raises:
        ValueError: no metrics, names differ, a baseline is 0, a group is empty, or a
            metric is in no group or in two. TypeError: no dicts, or a flag is neither
            True nor False.

    Example:
        >>> model = {"iou": 0.45, "error": 0.22, "angle": 20.0}
        >>> alone = {"iou": 0.50, "error": 0.20, "angle": 20.0}
        >>> higher = {"iou": True, "error": False, "angle": False}
        >>> heads = {"seg": ["iou"], "depth": ["error", "angle"]}
        >>> round(hw.pareto.delta_m(model, alone, higher), 3)  # (10 + 10 + 0) % / 3
        6.667
        >>> drop = hw.pareto.delta_m(model, alone, higher, groups=heads)
        >>> round(drop, 3)                                      # (10 + 5) % / 2
        7.5

    References:
        Maninis et al., "Attentive single-tasking of multiple tasks", CVPR 2019,
        equation 4. Navon et al., "Multi-task learning as a bargaining game", ICML 2022,
        section 6. Vandenhende et al., "Multi-task learning for dense prediction tasks",
        TPAMI 2021, equation 15.
    """
    given = {"metrics": metrics, "baseline": baseline, "higher": higher}
    for argument, got in given.items():
        if not isinstance(got, Mapping):
            raise TypeError(
                f"{argument}: expected a dict by name of metric, got "
                f"{type(got).__name__}"
            )
    if not metrics:
        raise ValueError("metrics: expected one or more, got none")
    _checks.same_names("baseline", metrics, baseline)
    _checks.same_names("higher", metrics, higher)
    _checks.choice("sign", SIGNS, sign)
    drops = {}
    for name, value in metrics.items():
        _checks.boolean(f"higher[{name!r}]", higher[name])
        if baseline[name] == 0:
            raise ValueError(f"baseline[{name!r}]: expected other than 0")
        change = (value - baseline[name]) / abs(baseline[name])
        drops[name] = -change if higher[name] else change
    members = _members(groups, list(metrics))
    means = [sum(drops[name] for name in names) / len(names) for names in members]
    mean = 100.0 * sum(means) / len(means)
    return mean if sign == "drop" else -mean


def _members(
    groups: Mapping[str, Sequence[str]] | None, names: list[str]
) -> list[list[str]]:
    """The metrics of each group; all in one without groups."""
    if groups is None:
        return [names]
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"groups: expected {{head: names of metrics}}, got {_checks.kind(groups)}"
        )
    for head, members in groups.items():
        if isinstance(members, str) or not isinstance(members, Sequence):
            raise TypeError(
                f"groups[{head!r}]: expected names of metrics, got "
                f"{_checks.kind(members)}"
            )
        if not members:
            raise ValueError(f"groups[{head!r}]: expected one or more metrics")
    every = [name for members in groups.values() for name in members]
    _checks.same_names("groups", names, every)
    twice = {name for name in every if every.count(name) > 1}
    if twice:
        raise ValueError(
            f"groups: expected each metric once, got {_checks.listing(twice)} twice"
        )
    return [list(members) for members in groups.values()]
