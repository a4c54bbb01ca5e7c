"""A reader for NIfTI-1 volumes (.nii, .nii.gz) that needs numpy only.

It covers what the bundled brain volumes need: one file, a 3-D grid, any real data type
of the standard, either byte order, the sform affine. No writing, no NIfTI-2, no
extensions.
"""

import gzip
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np

_HEADER_BYTES = 348
_DTYPES = {  # the header's `datatype` code -> numpy kind and width
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
}


class Nifti(NamedTuple):
    """A volume and where it lies."""

    data: np.ndarray
    """[X, Y, Z], the stored type, or float32 if the header asks for a rescale"""
    affine: np.ndarray
    """[4, 4] float64, voxel index (i, j, k, 1) -> millimetres (x, y, z, 1), where x
    grows to the subject's right, y to the front, z to the top"""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file, decompressed if its first bytes say gzip."""
    with open(path, "rb") as file:
        content = file.read()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole gzip file, got: {error}") from error


def read_nifti(path: str | os.PathLike[str]) -> Nifti:
    """Returns the volume and the affine of a NIfTI-1 file.

    Raises `ValueError` naming the file when it is not NIfTI-1, is truncated, is not
    three-dimensional, or has no sform.
    """
    content = read_bytes(path)
    if len(content) < _HEADER_BYTES:
        raise ValueError(
            f"{path}: expected a NIfTI-1 header of {_HEADER_BYTES} bytes, "
            f"got {len(content)} bytes"
        )
    order = "<" if struct.unpack_from("<i", content)[0] == _HEADER_BYTES else ">"
    magic = content[344:348]
    if struct.unpack_from(order + "i", content)[0] != _HEADER_BYTES or magic[:3] != (
        b"n+1"
    ):
        raise ValueError(f"{path}: expected a NIfTI-1 file, got magic {magic!r}")
    dims = struct.unpack_from(order + "8h", content, 40)
    shape = dims[1:4]
    if dims[0] < 3 or min(shape) < 1 or any(d > 1 for d in dims[4 : dims[0] + 1]):
        raise ValueError(f"{path}: expected one 3-D volume, got dim {dims}")
    code = struct.unpack_from(order + "h", content, 70)[0]
    if code not in _DTYPES:
        raise ValueError(
            f"{path}: expected a datatype code of {sorted(_DTYPES)}, got {code}"
        )
    dtype = np.dtype(order + _DTYPES[code])
    offset, slope, inter = struct.unpack_from(order + "3f", content, 108)
    count = int(np.prod(shape))
    if len(content) < int(offset) + count * dtype.itemsize:
        raise ValueError(
            f"{path}: expected {count * dtype.itemsize} bytes of voxels for shape "
            f"{shape}, got {len(content) - int(offset)}"
        )
    data = np.frombuffer(content, dtype, count, int(offset)).reshape(shape, order="F")
    data = data.astype(dtype.newbyteorder("="), order="C")  # a copy: writable, native
    if slope != 0 and (slope, inter) != (1, 0):  # slope 0 means: no rescale
        data = (data * slope + inter).astype(np.float32)
    if struct.unpack_from(order + "h", content, 254)[0] <= 0:
        raise ValueError(f"{path}: expected an sform (sform_code > 0), got none")
    affine = np.eye(4)
    affine[:3] = np.frombuffer(content, order + "f4", 12, 280).reshape(3, 4)
    return Nifti(data, affine)
