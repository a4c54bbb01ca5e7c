"""Two hundred calls at random; `_random_calls` makes as many as one likes."""

import pytest

from tests.messages import _arguments
from tests.messages import _random_calls


@pytest.mark.parametrize(
    ("start", "names"),
    [(start, _random_calls.FIRST) for start in range(0, 200, 50)]
    + [(0, _random_calls.NEWER), (0, _random_calls.STUDIES)]
    + [(0, _random_calls.MEASURES), (0, _random_calls.CHECKS)],
    ids=["0", "50", "100", "150", "newer", "studies", "measures", "checks"],
)
def test_calls_at_random(start, names):
    calls = list(_random_calls.run(50, seed=0, start=start, names=names))
    assert [str(call) for call in calls if call.faults] == []
    assert any(call.error is None for call in calls)


def test_every_argument_has_something_to_draw():
    """Else a call of many would find that out, some day."""
    for name, function in _random_calls.ROSTER.items():
        for p in _random_calls.parameters(function):
            assert p.name in _arguments.NATURAL, f"{name}({p.name})"


def test_a_fault_is_seen(monkeypatch):
    def bad(preds):
        preds[0, 0] = float("nan")
        return preds

    monkeypatch.setitem(_random_calls.ROSTER, "losses.bad", bad)
    seen = {
        fault
        for call in _random_calls.run(20, seed=0, names=["losses.bad"])
        for fault in call.faults
    }
    assert seen >= {"NaN", "changed", "words"}
