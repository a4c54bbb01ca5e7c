"""Batches of every kind of iterable: chunk after chunk, none is lost or read twice."""

import gc
import io
import itertools
import weakref

import pytest

from headwise.training import _batches


@pytest.fixture(scope="module", autouse=True)
def what_was_there_before():
    """Collecting looks at what these tests make, not at all that a worker holds."""
    gc.freeze()
    yield
    gc.unfreeze()


class Shared:
    """An iterable that gives one and the same iterator each time."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __iter__(self):
        return self.iterator


ONE_SHOT = {
    "generator": lambda rows: (t for t in rows),
    "map": lambda rows: map(int, rows),
    "zip": lambda rows: zip(rows, strict=True),
    "enumerate": lambda rows: enumerate(rows),
    "islice": lambda rows: itertools.islice(rows, 100),
    "chain": lambda rows: itertools.chain(rows, rows),
    "file": lambda rows: io.StringIO("".join(f"{t}\n" for t in rows)),
    "shared": lambda rows: Shared(t for t in rows),
}
AGAIN = {
    "list": lambda rows: list(rows),
    "range": lambda rows: rows,
    "dict": lambda rows: dict.fromkeys(rows),
}


def chunk(batches, first, steps, given=None):
    """What `fit` reads from step `first` on, with a state of step `given`."""
    given = first if given is None else given
    batch_of = _batches.reader(batches, first, given, None)
    return [batch_of(t) for t in range(first, steps)]


@pytest.mark.parametrize("first_state", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("kind", [*ONE_SHOT, *AGAIN])
def test_chunks_read_on(kind, first_state, caplog):
    """With the state of the chunk before, or the first state and its checkpoint."""
    make = (ONE_SHOT | AGAIN)[kind]
    right = list(make(range(9)))[:9]
    one, other = make(range(9)), make(range(9))
    read, of_other = [], []
    for first, steps in ((0, 3), (3, 4), (4, 9)):
        read += chunk(one, first, steps, 0 if first_state else None)
        of_other += chunk(other, first, steps)
        gc.collect()
    assert read == of_other == right
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ONE_SHOT)
def test_a_new_one_is_read_forward_from_where_the_state_stands(kind, caplog):
    make = ONE_SHOT[kind]
    right = list(make(range(9)))[5:9]
    assert chunk(make(range(9)), 5, 9, given=0) == right
    told = ["batches: those of the first 5 steps are passed over"]
    assert caplog.messages == ([] if kind == "shared" else told)


class Box:
    """Can be asked whether it lives."""


def test_iterators_are_not_kept_alive():
    """Those of `map` and the like, which cannot tell when they die: the newest few."""
    boxes = []

    def read(make):
        boxes.append(weakref.ref(box := Box()))
        chunk(make([box, box]), 0, 1)
        return boxes[-1]

    ended = read(lambda rows: map(id, rows[:1]))
    for make in (list, ONE_SHOT["generator"], Shared):
        batches = make if make is not Shared else (lambda rows: Shared(iter(rows)))
        alive = read(batches)
        gc.collect()
        assert alive() is None, make
    for _ in range(20):
        read(lambda rows: map(id, rows))
    gc.collect()
    assert ended() is None
    assert sum(box() is not None for box in boxes) <= 8


def test_the_end_is_an_error_and_forgotten():
    batches = iter([1, 2])
    with pytest.raises(ValueError, match="a batch for step 2, but the iterable has en"):
        chunk(batches, 0, 3)
    with pytest.raises(TypeError, match=r"batches: expected a function .*, got 3"):
        chunk(3, 0, 1)
