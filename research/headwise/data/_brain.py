"""Three-dimensional brain patches with three heads, cut and degraded on the device.

The volumes and the list of allowed patch corners go to the device once; after that a
batch is a few slices and some noise, inside jit. What is *not* here: reading the files
and the tissue rule (`_mni`), and the degradation itself (`_degrade`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from headwise import _checks
from headwise.data import _degrade
from headwise.data import _mni

CLASSES = 4
GAP = 4  # voxels that no patch touches, on each side of the dividing plane
_AXES = {"sagittal": (0,), "coronal": (1,), "diagonal": (0, 1)}
_SIDES = ("train", "held_out")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BrainVolumes:
    """A brain on the device and the patches that may be cut; see `brain_volumes`.

    A dataclass, not a tuple, because the patch edge must stay a Python integer under
    jit: the corners are only right for that edge.
    """

    t1: jax.Array
    """[197, 233, 189] uint8"""
    tissue: jax.Array
    """[197, 233, 189] uint8, classes 0 to 3 of `brain_tissue`"""
    train: jax.Array
    """[N, 3] int32, lowest corners of the training patches"""
    held_out: jax.Array
    """[M, 3] int32, lowest corners of the held-out patches"""
    size: int = dataclasses.field(metadata={"static": True})
    """the edge of a patch in voxels (static)"""


def _check_size(size: Any) -> int:
    """Returns the edge as an int; a U-Net of three levels needs a multiple of 8."""
    size = _checks.positive_int("size", size)
    if size % 8:
        raise ValueError(f"size: expected a multiple of 8, got {size}")
    return size


def _corners(
    brain: np.ndarray, size: int, axes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Lists the corners below and above the planes whose patch centre is in the brain.

    Patches lie whole inside the volume and `GAP` voxels away from every plane.
    """
    half = size // 2
    centres = brain[tuple(slice(half, n - size + half + 1) for n in brain.shape)]
    corners = np.argwhere(centres).astype(np.int32)
    planes = np.array([_mni.ORIGIN[axis] for axis in axes])
    along = corners[:, axes]
    low = (along + size <= planes - GAP).all(axis=1)
    high = (along > planes + GAP).all(axis=1)
    return corners[low], corners[high]


def brain_volumes(
    mni: _mni.Mni152 | None = None, size: int = 24, *, plane: str = "coronal"
) -> BrainVolumes:
    """Puts a brain and its allowed patches on the device, for `brain_patches`.

    A plane through the anterior commissure divides the brain. Patches lie whole on one
    side of it, at least 4 voxels away, and their centre voxel is brain::

        "coronal"   train is the back (cerebellum, occipital, parietal and most of the
                    temporal lobes), held out is the front (mostly frontal lobe);
        "sagittal"  train is the left hemisphere, held out the right;
        "diagonal"  both: train is the back of the left hemisphere, held out the front
                    of the right one.

    The template is exactly mirror-symmetric. With "sagittal" each held-out patch is
    the mirror image of a training patch: a check of how well a model copes with a
    flip, not of how well it generalises. "diagonal" holds out a hemisphere without
    that leak.

    Args:
        mni: from `load_mni152`, which is called when this is None (default).
        size: the edge of a patch, a positive multiple of 8.
        plane: "coronal" (default), "sagittal" or "diagonal".

    Returns:
        `BrainVolumes`, about 35 MB for size 24.

    Raises:
        ValueError: size is no multiple of 8 or too large for a patch on each side;
            unknown plane; volumes of another shape.

    Example:
        >>> from headwise import data
        >>> volumes = data.brain_volumes(size=24)
        >>> int(volumes.train[:, 1].max()) + 24          # 134 - 4
        130
        >>> int(volumes.held_out[:, 1].min())            # 134 + 4 + 1
        139
    """
    size = _check_size(size)
    _checks.choice("plane", sorted(_AXES), plane)
    mni = _mni.load_mni152() if mni is None else mni
    if mni.t1.shape != _mni.SHAPE:
        raise ValueError(f"mni: expected shape {_mni.SHAPE}, got {mni.t1.shape}")
    tissue = _mni.brain_tissue(mni)
    train, held_out = _corners(tissue > 0, size, _AXES[plane])
    if not (len(train) and len(held_out)):
        raise ValueError(
            f"size: expected patches that fit on both sides of the {plane} plane, "
            f"got {size} ({len(train)} training and {len(held_out)} held-out patches)"
        )
    return BrainVolumes(
        t1=jnp.asarray(mni.t1),
        tissue=jnp.asarray(tissue),
        train=jnp.asarray(train),
        held_out=jnp.asarray(held_out),
        size=size,
    )


def _check_strengths(noise: ArrayLike, bias: ArrayLike, blur: ArrayLike) -> None:
    for name, strength in {"noise": noise, "bias": bias, "blur": blur}.items():
        _checks.nonnegative(name, strength)


def _side_corners(volumes: BrainVolumes, side: str) -> jax.Array:
    _checks.choice("side", _SIDES, side)
    return volumes.train if side == "train" else volumes.held_out


def _patch_size(volumes: BrainVolumes, size: int | None) -> int:
    """Returns the edge to cut; a smaller one stays inside the allowed patch."""
    if size is None:
        return volumes.size
    size = _check_size(size)
    if size > volumes.size:
        raise ValueError(
            f"size: expected at most the {volumes.size} that brain_volumes was called "
            f"with, got {size}"
        )
    return size


@functools.partial(jax.jit, static_argnames=("size",))
def _make_batch(
    volumes: BrainVolumes,
    corners: jax.Array,
    keys: jax.Array,
    size: int,
    strengths: tuple[ArrayLike, ArrayLike, ArrayLike],
) -> dict[str, Any]:
    """Cuts one patch a corner and degrades it with its own key.

    Compiled, so that a call outside of jit is one program too.
    """
    corners = corners + (volumes.size - size) // 2

    def one(corner: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        t1, tissue = (
            lax.dynamic_slice(volume, tuple(corner), (size,) * 3)
            for volume in (volumes.t1, volumes.tissue)
        )
        clean = t1.astype(jnp.float32) / 255
        return *_degrade.degrade(key, clean, *strengths), clean, tissue

    inputs, bias, t1, tissue = jax.vmap(one)(corners, keys)
    targets = {
        "bias": bias[..., None],
        "t1": t1[..., None],
        "tissue": jax.nn.one_hot(tissue, CLASSES, dtype=jnp.float32),
    }
    return {"inputs": inputs[..., None], "targets": targets}


def brain_patches(
    volumes: BrainVolumes,
    key: jax.Array,
    *,
    batch_size: int,
    size: int | None = None,
    side: str = "train",
    noise: ArrayLike = 0.05,
    bias: ArrayLike = 0.3,
    blur: ArrayLike = 1.0,
) -> dict[str, Any]:
    """A random batch of degraded brain patches with the targets of three heads.

    The input is what a poor scan of the clean patch t1 might be::

        inputs = exp(b) * blurred(t1) + e

    where b is a smooth random field (low cosines) of standard deviation `bias`, the
    blur is a Gaussian of `blur` voxels, and e is normal noise of deviation `noise`.
    Heads: "tissue" (classes; must ignore b), "t1" (restore the clean patch), "bias"
    (b itself, which the tissue head has to forget: the two compete for the trunk).
    In air (tissue 0) nothing tells b; mask its loss with the tissue target if wanted.

    Centres are uniform over the brain voxels of a side, with replacement. The blur sees
    the patch only, so no held-out voxel enters a training batch.

    Args:
        volumes: from `brain_volumes`.
        key: a key of `jax.random`; the same key gives the same batch.
        batch_size: B >= 1 (static under jit).
        size: the edge s, a multiple of 8 up to `volumes.size`, which None (default)
            stands for; a smaller patch has the same centre (static).
        side: "train" or "held_out" (static).
        noise, bias, blur: scalars >= 0, may be traced; 0 switches one off.

    Returns:
        {"inputs": [B, s, s, s, 1], "targets": {"tissue": one-hot [B, s, s, s, 4] over
        (background, CSF, grey, white), "t1": [B, s, s, s, 1] in [0, 1], "bias":
        [B, s, s, s, 1]}}, all float32. inputs may leave [0, 1].

    Raises:
        ValueError: a bad size, side, batch_size or strength.

    Example:
        >>> import functools, jax
        >>> from headwise import data
        >>> volumes = data.brain_volumes(size=16)
        >>> draw = jax.jit(functools.partial(data.brain_patches, batch_size=2))
        >>> batch = draw(volumes, jax.random.key(0))
        >>> batch["inputs"].shape, batch["targets"]["tissue"].shape
        ((2, 16, 16, 16, 1), (2, 16, 16, 16, 4))
    """
    batch_size = _checks.positive_int("batch_size", batch_size)
    size = _patch_size(volumes, size)
    _check_strengths(noise, bias, blur)
    corners = _side_corners(volumes, side)
    place_key, degrade_key = jax.random.split(key)
    rows = jax.random.randint(place_key, (batch_size,), 0, corners.shape[0])
    keys = jax.random.split(degrade_key, batch_size)
    return _make_batch(volumes, corners[rows], keys, size, (noise, bias, blur))


def brain_grid(
    volumes: BrainVolumes,
    key: jax.Array,
    *,
    count: int = 8,
    size: int | None = None,
    side: str = "held_out",
    noise: ArrayLike = 0.05,
    bias: ArrayLike = 0.3,
    blur: ArrayLike = 1.0,
) -> dict[str, Any]:
    """A fixed batch of patches spread evenly over one side, for validation.

    The patches are cells of a regular lattice of edge `volumes.size`, shifted so that
    as many cells as possible are allowed patches. So they never overlap, and which ones
    are taken does not depend on the key: the key only draws the degradation. Both
    hemispheres of the symmetric template take part, so that the patches hold about
    half as much independent anatomy as their number says.

    Args:
        volumes, key, size, side, noise, bias, blur: as in `brain_patches`.
        count: the number of patches; the held-out side has 42 of edge 24.

    Returns:
        As `brain_patches`, with B = count. Call it outside jit: it reads the corners
        on the host.

    Raises:
        ValueError: fewer than `count` cells (the text says how many), a bad size or
            side.

    Example:
        >>> import jax
        >>> from headwise import data
        >>> volumes = data.brain_volumes(size=24)
        >>> batch = data.brain_grid(volumes, jax.random.key(0), count=6)
        >>> batch["targets"]["t1"].shape
        (6, 24, 24, 24, 1)
    """
    count = _checks.positive_int("count", count)
    size = _patch_size(volumes, size)
    _check_strengths(noise, bias, blur)
    corners = np.asarray(_side_corners(volumes, side))
    shifts = np.ravel_multi_index(tuple(corners.T % volumes.size), (volumes.size,) * 3)
    cells = corners[shifts == np.bincount(shifts).argmax()]
    if count > len(cells):
        raise ValueError(
            f"count: expected at most {len(cells)}, the patches of edge {volumes.size} "
            f"that fit side by side, got {count}"
        )
    rows = np.linspace(0, len(cells) - 1, count).round().astype(int)
    keys = jax.random.split(key, count)
    spread = jnp.asarray(cells[rows])
    return _make_batch(volumes, spread, keys, size, (noise, bias, blur))
