"""The MNI ICBM 152 average brain and the tissue map made from it."""

from typing import NamedTuple

import numpy as np

from headwise.data import _files
from headwise.data import _nifti

SHAPE = (197, 233, 189)
ORIGIN = (98, 134, 72)  # the voxel at 0 mm: mid-sagittal, anterior commissure
_AFFINE = np.eye(4)
_AFFINE[:3, 3] = [-98.0, -134.0, -72.0]


class Mni152(NamedTuple):
    """Three volumes of the average brain, each [197, 233, 189] uint8, 1 mm voxels."""

    t1: np.ndarray
    """T1-weighted intensity, 0 outside the brain (the skull is removed)"""
    grey: np.ndarray
    """probability of grey matter, 255 means 1"""
    white: np.ndarray
    """probability of white matter, 255 means 1"""


def load_mni152() -> Mni152:
    """MNI ICBM 152 average brain (2009a, symmetric): T1, grey and white matter.

    Axes: index 0 grows to the subject's right, 1 to the front, 2 to the top. Voxel
    (98, 134, 72) is the origin of MNI space; index 0 below 98 is the left hemisphere.
    The template is symmetric to the last bit: `t1[98 - d] == t1[98 + d]`, and the same
    for both maps. One hemisphere is therefore no independent test of the other.

    Licence: (c) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal
    Neurological Institute, McGill University. Free to use, copy, modify and distribute
    for any purpose provided that this notice is kept.

    Returns:
        `Mni152` of numpy arrays [197, 233, 189], uint8.

    Raises:
        ModuleNotFoundError: nilearn, whose files are read, is not installed.
        ValueError: its files are not the expected release.

    Example:
        >>> from headwise import data
        >>> mni = data.load_mni152()
        >>> mni.t1.shape, mni.t1.dtype.name, int(mni.t1.max())
        ((197, 233, 189), 'uint8', 255)
        >>> bool((mni.t1[:98] == mni.t1[:98:-1]).all())     # a mirror image
        True

    References:
        Fonov, Evans, McKinstry, Almli, Collins: Unbiased nonlinear average
        age-appropriate brain templates from birth to adulthood, NeuroImage 47(S1),
        2009. Fonov et al., NeuroImage 54(1), 2011.
    """
    volumes = []
    for kind in ("t1", "gm", "wm"):
        name = f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        path = _files.locate("nilearn", "datasets", "data", name)
        data, affine = _nifti.read_nifti(path)
        if data.shape != SHAPE or data.dtype != np.uint8:
            raise ValueError(
                f"{path}: expected uint8 {SHAPE}, got {data.dtype} {data.shape}"
            )
        if not np.array_equal(affine, _AFFINE):
            raise ValueError(f"{path}: expected affine\n{_AFFINE}\ngot\n{affine}")
        volumes.append(data)
    return Mni152(*volumes)


def brain_tissue(mni: Mni152) -> np.ndarray:
    """Tissue of every voxel: 0 background, 1 CSF, 2 grey matter, 3 white matter.

    The rule: a voxel belongs to the brain where the T1 is above 0. Inside, the
    probability of cerebrospinal fluid (CSF) is what grey and white leave over::

        csf = 255 - grey - white

    and the voxel gets the most probable of the three; a tie goes to the lower number.
    Outside, the faint tails of the two maps are ignored.

    Shares of the brain's 1.89 litres: CSF 8.5 %, grey 57.8 %, white 33.7 %. There is
    less CSF than in a head, as the brain mask cuts most of the fluid around the cortex.

    Args:
        mni: three volumes of one shape, uint8, with grey + white <= 255.

    Returns:
        [...] uint8, the shape of the volumes.

    Raises:
        ValueError: shapes differ.
        TypeError: a volume is not uint8.

    Example:
        >>> import numpy as np
        >>> from headwise import data
        >>> t1, grey, white = np.array(
        ...     [[0, 90, 160, 220], [40, 20, 200, 30], [0, 10, 40, 225]], np.uint8)
        >>> data.brain_tissue(data.Mni152(t1, grey, white)).tolist()
        [0, 1, 2, 3]
    """
    for name, volume in zip(mni._fields, mni, strict=True):
        if volume.dtype != np.uint8:
            raise TypeError(f"mni.{name}: expected uint8, got {volume.dtype}")
        if volume.shape != mni.t1.shape:
            raise ValueError(
                f"mni.{name}: expected the shape of mni.t1 {mni.t1.shape}, "
                f"got {volume.shape}"
            )
    grey, white = mni.grey.astype(np.int16), mni.white.astype(np.int16)
    csf = 255 - grey - white
    nothing, fluid, of_grey, of_white = np.arange(4, dtype=np.uint8)
    tissue = np.where(csf >= grey, fluid, of_grey)
    tissue = np.where(white > np.maximum(csf, grey), of_white, tissue)
    return np.where(mni.t1 > 0, tissue, nothing)
