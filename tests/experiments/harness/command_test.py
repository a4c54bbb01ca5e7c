"""The entry point of commands."""

import gc

import pytest

from experiments.harness import command


def test_what_is_there_when_a_command_begins_is_not_searched_for_garbage(monkeypatch):
    """Tracing has Python search often, and a command has imported 300,000 objects."""
    monkeypatch.setattr(command.signals, "catch", lambda: None)  # the tests have theirs
    imported = [[] for _ in range(1000)]
    before, seen = gc.get_freeze_count(), []
    with pytest.raises(SystemExit) as end:
        command.run(lambda argv: seen.append(gc.get_freeze_count()))
    assert end.value.code == 0
    assert seen[0] - before >= len(imported)
