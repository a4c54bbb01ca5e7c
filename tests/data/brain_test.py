"""Brain volumes and patches: what is cut, from where, and how it is degraded."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from headwise import data
from headwise.data import _degrade

SIZE = 16
CLEAN = {"noise": 0.0, "bias": 0.0, "blur": 0.0}


@functools.cache
def _mni():
    return data.load_mni152()


@functools.cache
def _volumes(plane="coronal", size=SIZE):
    return data.brain_volumes(_mni(), size, plane=plane)


@functools.cache
def _compiled(side, batch_size, size):
    def draw(volumes, key, noise, bias, blur):
        return data.brain_patches(
            volumes,
            key,
            batch_size=batch_size,
            side=side,
            size=size,
            noise=noise,
            bias=bias,
            blur=blur,
        )

    return jax.jit(draw)


def _draw(side="train", batch_size=3, size=None):
    """One program for all strengths, compiled once for the whole file."""

    def draw(volumes, key, noise=0.05, bias=0.3, blur=1.0):
        return _compiled(side, batch_size, size)(volumes, key, noise, bias, blur)

    return draw


@functools.cache
def _covered(plane, side, size):
    """Marks every voxel that some patch touches: each axis in turn, by doubling."""
    corners = np.asarray(getattr(_volumes(plane, size), side))
    mark = np.zeros(_mni().t1.shape, bool)
    mark[tuple(corners.T)] = True
    for axis in range(3):
        lines, width = np.moveaxis(mark, axis, 0), 1  # a view
        while width < size:
            step = min(width, size - width)
            lines[step:] |= lines[:-step].copy()
            width += step
    return mark


class MniTest(chex.TestCase):
    def test_volumes(self):
        for volume in _mni():
            self.assertEqual(volume.shape, (197, 233, 189))
            self.assertEqual(volume.dtype, np.uint8)
            self.assertEqual(volume.max(), 255)

    def test_skull_is_stripped_and_border_is_empty(self):
        t1 = _mni().t1
        self.assertFalse(t1[[0, -1]].any() or t1[:, [0, -1]].any())
        self.assertGreater(t1[t1 > 0].min(), 20)

    def test_template_is_its_own_mirror_image(self):
        """Why the default division is not left against right."""
        for volume in _mni():
            np.testing.assert_array_equal(volume, volume[::-1])

    def test_front_is_at_high_index(self):
        """The cerebellum, low and at the back, is lower than anything in front."""
        lowest_back = np.argwhere(_mni().t1[:, :100] > 0)[:, 2].min()
        lowest_front = np.argwhere(_mni().t1[:, 150:] > 0)[:, 2].min()
        self.assertLess(lowest_back, lowest_front)


class TissueTest(chex.TestCase):
    def test_equals_argmax_of_the_maps(self):
        mni = _mni()
        maps = [m.astype(np.float64) / 255 for m in (mni.grey, mni.white)]
        csf = 1 - maps[0] - maps[1]
        # Probabilities are multiples of 1/255: rounding keeps ties as ties.
        expected = 1 + np.argmax(np.round([csf, *maps], 6), axis=0)
        expected[mni.t1 == 0] = 0
        got = data.brain_tissue(mni)
        self.assertEqual(got.dtype, np.uint8)
        for label in range(4):
            a, b = got == label, expected == label
            dice = 2 * np.sum(a & b) / (np.sum(a) + np.sum(b))
            self.assertEqual(dice, 1.0, msg=f"class {label}")

    def test_shares_are_anatomical(self):
        share = np.bincount(data.brain_tissue(_mni()).ravel())[1:] / 1886539
        np.testing.assert_allclose(share, [0.085, 0.578, 0.337], atol=5e-4)

    def test_brightness_follows_tissue(self):
        tissue, t1 = data.brain_tissue(_mni()), _mni().t1
        means = [t1[tissue == label].mean() for label in range(4)]
        self.assertEqual(means, sorted(means))

    def test_bad_input(self):
        volume = np.zeros((2, 2, 2), np.uint8)
        with self.assertRaisesRegex(ValueError, r"mni\.white.*\(2, 2, 2\)"):
            data.brain_tissue(data.Mni152(volume, volume, volume[:1]))
        with self.assertRaisesRegex(TypeError, r"mni\.grey.*uint8.*float64"):
            data.brain_tissue(data.Mni152(volume, volume * 1.0, volume))


class VolumesTest(chex.TestCase):
    @parameterized.parameters(
        ("coronal", 1, 134),
        ("sagittal", 0, 98),
        ("diagonal", 0, 98),
        ("diagonal", 1, 134),
    )
    def test_sides_share_no_voxel(self, plane, axis, middle):
        train = _covered(plane, "train", SIZE)
        held_out = _covered(plane, "held_out", SIZE)
        self.assertTrue(train.any() and held_out.any())
        self.assertFalse((train & held_out).any())
        seen = np.argwhere(train)[:, axis].max(), np.argwhere(held_out)[:, axis].min()
        self.assertEqual(seen, (middle - 5, middle + 5))  # 4 voxels apart, each side

    @parameterized.parameters("coronal", "diagonal")
    def test_held_out_voxels_are_no_mirror_images_either(self, plane):
        train = _covered(plane, "train", SIZE)
        held_out = _covered(plane, "held_out", SIZE)
        self.assertFalse((train[::-1] & held_out).any())

    def test_sagittal_held_out_voxels_are_mirror_images(self):
        train = _covered("sagittal", "train", SIZE)
        held_out = _covered("sagittal", "held_out", SIZE)
        self.assertGreater((train[::-1] & held_out).sum() / held_out.sum(), 0.99)

    @parameterized.parameters(8, 24)
    def test_every_brain_centre_that_fits_is_listed(self, size):
        volumes = _volumes(size=size)
        corners = np.concatenate([volumes.train, volumes.held_out])
        listed = np.zeros(_mni().t1.shape, bool)
        listed[tuple(corners.T)] = True
        self.assertEqual(np.count_nonzero(listed), len(corners))  # each once
        centres = tuple((corners + size // 2).T)
        self.assertTrue((_mni().t1[centres] > 0).all())
        self.assertTrue((corners >= 0).all())
        self.assertTrue((corners + size <= _mni().t1.shape).all())
        fits = np.zeros_like(_mni().t1, bool)
        half = size // 2
        fits[half : 198 - half, :, half : 190 - half] = True
        low = np.arange(233) - half
        allowed = (low >= 0) & (low + size <= 130) | (low >= 139) & (low + size <= 233)
        expected = (_mni().t1 > 0) & fits & allowed[None, :, None]
        self.assertLen(corners, int(expected.sum()))

    def test_bad_arguments(self):
        with self.assertRaisesRegex(ValueError, "size.*multiple of 8.*12"):
            data.brain_volumes(_mni(), 12)
        with self.assertRaisesRegex(ValueError, "size.*positive int.*0"):
            data.brain_volumes(_mni(), 0)
        with self.assertRaisesRegex(ValueError, r"size: expected a positive int, got "):
            data.brain_volumes(_mni(), 16.0)
        with self.assertRaisesRegex(ValueError, "size.*both sides.*160"):
            data.brain_volumes(_mni(), 160)
        with self.assertRaisesRegex(ValueError, "plane.*coronal.*axial"):
            data.brain_volumes(_mni(), plane="axial")
        small = data.Mni152(*(v[:10] for v in _mni()))
        with self.assertRaisesRegex(ValueError, r"mni.*\(197, 233, 189\).*\(10,"):
            data.brain_volumes(small)


class PatchesTest(chex.TestCase):
    def test_shapes_and_ranges(self):
        batch = _draw()(_volumes(), jax.random.key(0))
        targets = batch["targets"]
        self.assertEqual(sorted(targets), ["bias", "t1", "tissue"])
        chex.assert_shape(
            [batch["inputs"], targets["t1"], targets["bias"]], (3, 16, 16, 16, 1)
        )
        chex.assert_shape(targets["tissue"], (3, 16, 16, 16, 4))
        chex.assert_type(jax.tree.leaves(batch), jnp.float32)
        chex.assert_tree_all_finite(batch)
        self.assertBetween(float(targets["t1"].min()), 0, 1)
        self.assertBetween(float(targets["t1"].max()), 0.3, 1)

    def test_tissue_is_one_hot(self):
        tissue = _draw()(_volumes(), jax.random.key(0))["targets"]["tissue"]
        np.testing.assert_array_equal(tissue.sum(-1), 1)
        np.testing.assert_array_equal(tissue.max(-1), 1)

    def test_same_key_same_batch_other_key_other_batch(self):
        first, same, other = (_draw()(_volumes(), jax.random.key(k)) for k in (0, 0, 1))
        chex.assert_trees_all_equal(first, same)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            self.assertGreater(float(jnp.abs(a - b).max()), 0)

    def test_jit_equals_eager(self):
        """Also: the defaults are the strengths that `_draw` passes."""
        eager = data.brain_patches(_volumes(), jax.random.key(5), batch_size=3)
        jitted = _draw()(_volumes(), jax.random.key(5))
        # Fused arithmetic may differ in the last bits of a float32 near 1.
        chex.assert_trees_all_close(eager, jitted, atol=1e-5)

    def test_strengths_do_not_recompile(self):
        for strength in (0.0, 0.1, 0.5):
            _draw()(_volumes(), jax.random.key(0), strength, strength, strength)
        self.assertEqual(_compiled("train", 3, None)._cache_size(), 1)

    @parameterized.parameters("train", "held_out")
    def test_clean_patches_are_cut_from_their_side(self, side):
        """Finds each clean patch in the volume, and only on its own side."""
        volumes = _volumes()
        batch = _draw(side)(volumes, jax.random.key(2), **CLEAN)
        t1 = batch["targets"]["t1"]
        np.testing.assert_allclose(batch["inputs"], t1, atol=1e-6)
        np.testing.assert_array_equal(batch["targets"]["bias"], 0)
        patches = np.rint(np.asarray(t1[..., 0]) * 255).astype(np.uint8)
        corners = np.asarray(getattr(volumes, side))
        probes = [
            (0, 0, 0),
            (8, 8, 8),
            (15, 3, 9),
            (4, 12, 2),
            (9, 1, 14),
            (15, 15, 15),
        ]
        for patch, tissue in zip(patches, batch["targets"]["tissue"], strict=True):
            places = corners
            for probe in probes:
                voxels = _mni().t1[tuple((places + probe).T)]
                places = places[voxels == patch[probe]]
            blocks = [tuple(slice(i, i + SIZE) for i in corner) for corner in places]
            hits = [b for b in blocks if np.array_equal(_mni().t1[b], patch)]
            self.assertNotEmpty(hits)
            expected = np.asarray(volumes.tissue)[hits[0]]
            np.testing.assert_array_equal(tissue.argmax(-1), expected)

    def test_smaller_patch_has_the_same_centre(self):
        large = _draw()(_volumes(), jax.random.key(0), **CLEAN)["inputs"]
        small = _draw(size=8)(_volumes(), jax.random.key(0), **CLEAN)["inputs"]
        np.testing.assert_array_equal(small, large[:, 4:12, 4:12, 4:12])

    def test_every_corner_can_be_drawn(self):
        """With the same five corners again and again, 60 draws find all five."""
        volumes = _volumes()
        five = volumes.train[:: len(volumes.train) // 4]
        rows = jnp.arange(len(volumes.train)) % 5
        few = dataclasses.replace(volumes, train=five[rows])
        t1 = [_draw()(few, jax.random.key(k))["targets"]["t1"] for k in range(20)]
        self.assertLen(np.unique(np.asarray(t1).reshape(60, -1), axis=0), 5)

    def test_bad_arguments(self):
        call = functools.partial(data.brain_patches, _volumes(), jax.random.key(0))
        with self.assertRaisesRegex(ValueError, "side.*train.*held_out.*left"):
            call(batch_size=1, side="left")
        with self.assertRaisesRegex(ValueError, "size.*multiple of 8.*20"):
            call(batch_size=1, size=20)
        with self.assertRaisesRegex(ValueError, "size.*at most the 16.*24"):
            call(batch_size=1, size=24)
        with self.assertRaisesRegex(ValueError, "batch_size.*positive int.*0"):
            call(batch_size=0)
        with self.assertRaisesRegex(
            ValueError, "batch_size: expected a positive int, got True"
        ):
            call(batch_size=True)
        for strength in ("noise", "bias", "blur"):
            with self.assertRaisesRegex(ValueError, f"{strength}: expected a number"):
                call(batch_size=1, **{strength: -0.1})


class GridTest(chex.TestCase):
    def test_fixed_patches_that_do_not_depend_on_the_key(self):
        first = data.brain_grid(_volumes(), jax.random.key(0), count=5)
        same = data.brain_grid(_volumes(), jax.random.key(0), count=5)
        other = data.brain_grid(_volumes(), jax.random.key(1), count=5)
        chex.assert_trees_all_equal(first, same)
        chex.assert_trees_all_equal(first["targets"]["t1"], other["targets"]["t1"])
        difference = jnp.abs(first["inputs"] - other["inputs"])
        self.assertGreater(float(difference.max()), 0.01)

    def test_whole_grid_covers_each_voxel_once(self):
        """Puts each voxel's own number into the volume and reads the patches."""
        volumes = _volumes(size=24)
        number = jnp.arange(volumes.t1.size, dtype=jnp.int32).reshape(volumes.t1.shape)
        seen = []
        for shift in (0, 8, 16):  # 24 bits in three bytes
            part = ((number >> shift) & 255).astype(jnp.uint8)
            traced = dataclasses.replace(volumes, t1=part)
            grid = data.brain_grid(traced, jax.random.key(0), count=42)
            t1 = np.asarray(grid["targets"]["t1"])
            seen.append(np.rint(t1 * 255).astype(np.int64) << shift)
        voxels = sum(seen).ravel()
        times = np.bincount(voxels)
        self.assertEqual(times.max(), 1)
        self.assertEqual(times.sum(), 42 * 24**3)
        allowed = _covered("coronal", "held_out", 24)
        self.assertTrue(allowed.ravel()[voxels].all())

    def test_bad_count(self):
        with self.assertRaisesRegex(ValueError, "count.*at most 42.*43"):
            data.brain_grid(_volumes(size=24), jax.random.key(0), count=43)


class DegradeTest(chex.TestCase):
    def test_input_is_blurred_times_field_plus_noise(self):
        key = jax.random.key(4)
        draw, volumes = _draw(), _volumes()
        clean = draw(volumes, key, noise=0.0, bias=0.0, blur=1.0)
        biased = draw(volumes, key, noise=0.0, bias=0.4, blur=1.0)
        field = jnp.exp(biased["targets"]["bias"])
        # Two float32 programs: products of numbers near 1 agree to a few ulp.
        np.testing.assert_allclose(
            biased["inputs"], clean["inputs"] * field, rtol=1e-4, atol=1e-6
        )
        noisy = draw(volumes, key, noise=0.1, bias=0.4, blur=1.0)
        added = noisy["inputs"] - biased["inputs"]
        # 12288 draws: the deviation has a standard error of 0.1 / sqrt(24576) = 6e-4.
        self.assertAlmostEqual(float(added.std()), 0.1, delta=0.003)
        self.assertAlmostEqual(float(added.mean()), 0.0, delta=0.004)

    @parameterized.parameters(0.5, 1.0, 2.0)
    def test_blur_equals_a_plain_loop(self, width):
        image = np.random.default_rng(0).random((8, 8, 8))
        expected = image
        for axis in range(3):
            lines = np.moveaxis(expected, axis, 0)
            blurred = np.zeros_like(lines)
            for i in range(8):
                weights = np.exp(-((np.arange(8) - i) ** 2) / (2 * width**2))
                blurred[i] = np.tensordot(weights / weights.sum(), lines, 1)
            expected = np.moveaxis(blurred, 0, axis)
        got = _degrade.gaussian_blur(jnp.asarray(image, jnp.float32), width)
        np.testing.assert_allclose(got, expected, atol=1e-6)

    def test_blur_of_width_zero_is_the_identity_with_finite_gradient(self):
        image = jax.random.uniform(jax.random.key(0), (8, 8, 8))
        np.testing.assert_allclose(_degrade.gaussian_blur(image, 0.0), image, atol=1e-7)
        slope = jax.grad(lambda w: _degrade.gaussian_blur(image, w).sum())(0.0)
        self.assertTrue(np.isfinite(slope))

    def test_bias_field_is_smooth_with_unit_variance(self):
        normals = jax.random.normal(jax.random.key(0), (500, 27))
        fields = jax.vmap(lambda row: _degrade.bias_field(row, 16))(normals)
        # The gain holds 0.43 of the variance and one number a field: the standard
        # error over 500 fields is about 0.04.
        self.assertAlmostEqual(float(jnp.square(fields).mean()), 1.0, delta=0.15)
        self.assertAlmostEqual(float(fields.mean()), 0.0, delta=0.12)
        # Smooth: a step of one voxel changes it by a tenth of its deviation. White
        # noise would change by 2 / sqrt(pi) = 1.13 deviations.
        steps = jnp.abs(jnp.diff(fields, axis=1))
        self.assertLess(float(steps.mean()), 0.12)

    def test_bias_target_scales_with_its_strength(self):
        weak, strong = (
            _draw()(_volumes(), jax.random.key(0), bias=b)["targets"]["bias"]
            for b in (0.1, 0.3)
        )
        np.testing.assert_allclose(3 * weak, strong, rtol=1e-4, atol=1e-6)
