"""Ways take turns in order; a peer answers, and says what went wrong."""

import sys
import textwrap

import jax.numpy as jnp
import pytest

from experiments.benchmarks import harness


def counted(name, calls):
    """A way that notes every turn it gets."""

    def way(count):
        calls.append((name, count))
        return [float(len(calls))] * count

    return way


def test_ways_take_turns_after_one_call_of_each():
    calls = []
    ways = {name: counted(name, calls) for name in "ab"}
    taken = harness.turns(ways, calls=2, rounds=2)
    assert calls == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 2), ("b", 2)]
    assert taken == {"a": [3.0, 3.0, 5.0, 5.0], "b": [4.0, 4.0, 6.0, 6.0]}
    assert harness.best(taken) == {"a": 3.0, "b": 4.0}


def test_rounds_go_on_for_so_many_seconds():
    taken = harness.turns({"a": harness.way(lambda: None)}, seconds=0.01)
    assert len(taken["a"]) > 10
    assert sum(taken["a"]) < 0.01


def test_compiled_tells_operations_and_memory():
    x = jnp.ones((64, 64))
    program = harness.compiled(lambda x: jnp.tanh(x @ x) @ x, x)
    assert program.operations >= 2 * 2 * 64**3
    assert program.temporary >= x.nbytes
    assert program.seconds > 0
    assert (program.call() == 64).all()


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """A folder of peers with one more: it sorts numbers, or fails."""
    serve = (harness.PEERS / "_serve.py").read_text()
    (tmp_path / "_serve.py").write_text(serve)
    (tmp_path / "sorting.py").write_text(
        textwrap.dedent(
            """
            from _serve import seconds, serve

            def measure(name, calls, numbers):
                return [seconds(lambda: sorted(numbers)) for _ in range(calls)]

            serve(measure, ["sort"], ["numpy"])
            """
        )
    )
    monkeypatch.setattr(harness, "PEERS", tmp_path)


@pytest.mark.usefixtures("peers")
def test_a_peer_times_calls():
    with harness.Peer(sys.executable, "sorting.py") as peer:
        assert peer.names == ["sort"]
        assert set(peer.versions) == {"numpy"}
        taken = harness.turns({"sort": peer.way("sort", numbers=[3, 1])}, calls=2)
        assert len(taken["sort"]) == 2
        assert min(taken["sort"]) > 0
        with pytest.raises(RuntimeError, match=r"sort of sorting\.py: TypeError"):
            peer.way("sort", numbers=3)(1)
        assert len(peer.way("sort", numbers=[2])(3)) == 3  # and it lives on


@pytest.mark.parametrize("file", ["monai_losses.py", "torchjd_weightings.py"])
def test_a_python_that_lacks_what_a_peer_needs_is_named(file, capfd):
    head = (harness.PEERS / file).read_text().partition('"""')[0]
    assert "# dependencies = " in head
    with pytest.raises(RuntimeError, match=f"ended in {file}"):
        harness.Peer(sys.executable, file)
    assert "ModuleNotFoundError" in capfd.readouterr().err
