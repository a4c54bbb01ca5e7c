"""Gives every test of a battery the names of the losses that it is about."""

import pytest


def pytest_generate_tests(metafunc):
    entries = getattr(metafunc.cls, "entries", None)
    if entries is None or "name" not in metafunc.fixturenames:
        return
    concerns = getattr(metafunc.function, "concerns", lambda entry: True)
    optimized = getattr(metafunc.function, "optimized", lambda entry: False)
    names = [
        pytest.param(name, marks=pytest.mark.optimized if optimized(entry) else ())
        for name, entry in sorted(entries.items())
        if concerns(entry)
    ]
    metafunc.parametrize("name", names)
