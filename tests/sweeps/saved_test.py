"""Checkpoints of cohorts: the newest whole one of all claims, and nothing else."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._store import _saved
from headwise.sweeps._store import _store


def open_at(folder):
    return _store.open(folder, {"program": "p"})


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "headwise"]


def state(step, **others):
    keys = jax.random.split(jax.random.key(step), 2)
    return {
        "members": {"w": jnp.arange(6.0).reshape(2, 3) + step, "key": keys},
        "t": jnp.full(2, step),
        "half": jnp.ones(2, jnp.bfloat16),
        "none": jnp.zeros((0, 3)),
        **others,
    }


def same(tree, other):
    def equal(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)

    jax.tree.map(equal, tree, other)


LIKE = jax.eval_shape(lambda: state(0))


def test_the_newest_whole_checkpoint_of_all_claims_is_restored(tmp_path, caplog):
    with open_at(tmp_path) as store:
        assert store.restore(0, LIKE) is None
        claim = store.claim(0)
        for step in (1, 2, 3):
            store.save(claim, step, state(step))
    with open_at(tmp_path) as store:  # also of one that is held by nobody
        found, step = store.restore(0, LIKE)
        assert step == 3
        same(found, state(3))
        assert {p.name for p in (tmp_path / "ckpt/000000.0").iterdir()} == {"2", "3"}
        heir = store.claim(0)
        assert heir.name == "000000.1"
        store.save(heir, 4, state(4))
        store.wait(heir)
        same(store.restore(0, state(0))[0], state(4))
        next((tmp_path / "ckpt/000000.1/4").rglob("manifest.ocdbt")).unlink()
        found, step = store.restore(0, LIKE)
        assert step == 3
        same(found, state(3))
        (message,) = told(caplog)
        assert message.startswith(f"{tmp_path}/ckpt/000000.1/4: is damaged (")
        assert message.endswith("), passed over")
        store.save(heir, 5, state(5))
        store.wait(heir)
        store.finished(heir)  # it drops its own, and no other's
    assert [path.name for path in (tmp_path / "ckpt").iterdir()] == ["000000.0"]
    for step in "23":
        (tmp_path / f"ckpt/000000.0/{step}/sums.json").write_text("{")
    with open_at(tmp_path) as store:
        assert store.restore(0, LIKE) is None  # it is trained from its start


def test_what_is_given_for_good_after_a_save_is_saved_as_it_was(tmp_path):
    """A compiled step may write over the arrays that are being saved."""
    step = jax.jit(lambda x: x * 2.0 + 1.0, donate_argnums=0)
    expected, x = {}, step(jnp.arange(2.0**18))
    with open_at(tmp_path) as store:
        claim = store.claim(0)
        for number in range(4):
            expected[number] = np.array(x)
            store.save(claim, number, {"x": x})
            for _ in range(3):
                x = step(x)
    with open_at(tmp_path) as store:
        found, number = store.restore(0, {"x": x})
        assert number == 3
        np.testing.assert_array_equal(found["x"], expected[3])


def test_a_checkpoint_of_another_program_is_named(tmp_path, caplog):
    with open_at(tmp_path) as store:
        claim = store.claim(0)
        store.save(claim, 1, state(1))
        store.wait(claim)
        with pytest.raises(hw.sweeps.StudyError) as error:
            store.restore(0, LIKE | {"t": jnp.zeros(3, jnp.int32), "more": jnp.ones(1)})
        text = str(error.value)
        assert text.startswith(f"{tmp_path}/ckpt/000000.0/1: the checkpoint is of ano")
        assert "; t: int32[2] in the checkpoint, int32[3] now (give another" in text
        assert "\n" not in text
        # An older one that fits is taken.
        store.save(claim, 2, {"w": jnp.ones(1)})
        store.wait(claim)
        assert store.restore(0, LIKE)[1] == 1
        assert told(caplog) == [
            f"{tmp_path}/ckpt/000000.0/2: is of another program, passed over"
        ]


def test_the_one_before_stays_until_the_next_is_whole(tmp_path, monkeypatch):
    with open_at(tmp_path) as store:
        claim = store.claim(0)
        for step in (1, 2):
            store.save(claim, step, state(step))
        store.wait(claim)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("headwise._whole.seal", full)
            store.save(claim, 3, state(3))
            with pytest.raises(
                OSError, match=r"/000000\.0/3: No space left on device$"
            ):
                store.wait(claim)
        assert store.restore(0, LIKE)[1] == 2
        store.save(claim, 4, state(4))  # there is space again
        store.wait(claim)
        assert store.restore(0, LIKE)[1] == 4


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no such call")
def test_room_is_asked_for_by_a_file_without_a_name(tmp_path, monkeypatch):
    """So a kill at that moment leaves nothing on the disk."""
    allocate, there = os.posix_fallocate, []

    def allocate_and_look(file, start, nbytes):
        allocate(file, start, nbytes)
        there.append((os.fstat(file).st_size, os.listdir(tmp_path)))

    monkeypatch.setattr(os, "posix_fallocate", allocate_and_look)
    _saved.reserve(tmp_path, 1000)
    assert there == [(1000 + _saved._SPARE, [])]
