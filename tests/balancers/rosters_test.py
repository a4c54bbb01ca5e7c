"""The public tuples of factories: complete, and true about what each needs."""

import inspect

import headwise as hw
from tests.balancers import contract_test

ROSTERS = {
    "values": hw.balancers.FROM_VALUES,
    "gramian": hw.balancers.FROM_GRAMIAN,
    "grads": hw.balancers.FROM_GRADIENTS,
}


def test_every_factory_is_in_one_roster():
    listed = [n for r in (*ROSTERS.values(), hw.balancers.WRAPPERS) for n in r]
    factories = {
        name
        for name in hw.balancers.__all__
        if inspect.isfunction(getattr(hw.balancers, name)) and name != "presence"
    }
    assert sorted(listed) == sorted(factories)


def test_rosters_say_what_a_factory_needs():
    for needs, roster in ROSTERS.items():
        for name in roster:
            made = contract_test.CASES[name].make(("a", "b", "c"))
            assert made.needs == needs, name
