"""Gives every test of a battery the names of the losses that it is about."""


def pytest_generate_tests(metafunc):
    entries = getattr(metafunc.cls, "entries", None)
    if entries is None or "name" not in metafunc.fixturenames:
        return
    concerns = getattr(metafunc.function, "concerns", lambda entry: True)
    names = [name for name in sorted(entries) if concerns(entries[name])]
    metafunc.parametrize("name", names)
