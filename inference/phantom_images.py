"""The phantom as a scanner would show it: labels made bright, textured, blurred, shaded and noisy; cut in any plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.phantom_anatomy import Skeleton
from inference.phantom_canvas import FIELD_MM, FRONT_MM, TOP_MM
from inference.phantom_painting import Scene, section
from inference.phantom_tissues import Contrast, texture_table
from inference.volume import FloatArray, VoxelArray

PIXELS = 384
PIXEL_MM = FIELD_MM / PIXELS
STEP_MM = 2.2
"""Between sagittal sections: half the distance of the sagittal slices."""
SECTIONS = 82
FIRST_MM = -(SECTIONS - 1) / 2 * STEP_MM
NOISE = 13.0
"""Standard deviation of the noise in each channel; marrow is about 300: a signal-to-noise ratio of 20 to 25."""
BLUR_PIXELS = 0.65


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """Labels of the whole field, and the texture that all contrasts share."""

    labels: NDArray[np.uint8]
    """(sections, rows, columns), rows and columns at twice the image resolution."""
    texture: VoxelArray
    """(sections, 192, 192), mean 0, standard deviation 1; repeats over the field."""

    def sections(self, contrast: Contrast, first: int, last: int) -> VoxelArray:
        """(last - first, 384, 384) noiseless images of these sections."""
        table = contrast.table().astype(np.float32)
        spread = texture_table().astype(np.float32)
        images = np.empty((last - first, PIXELS, PIXELS), np.float32)
        shade = _coil_shading()
        for index in range(first, last):
            label = self.labels[index]
            mean = _halved(table[label])
            mean *= 1 + _halved(spread[label]) * np.tile(self.texture[index], (2, 2))
            images[index - first] = ndimage.gaussian_filter(mean, BLUR_PIXELS) * shade
        return images


def paint(skeleton: Skeleton, seed: int) -> Body:
    """Paint all sections. Neighbouring ones share their random detail, as fat and nerves run through several."""
    scene = Scene.of(skeleton, np.random.default_rng([seed, 3_000]))
    labels = np.empty((SECTIONS, 2 * PIXELS, 2 * PIXELS), np.uint8)
    for index in range(SECTIONS):
        x_mm = FIRST_MM + index * STEP_MM
        labels[index] = section(scene, x_mm, 2 * PIXELS, np.random.default_rng([seed, (index + 1) // 2]))
    return Body(labels=labels, texture=_texture(np.random.default_rng([seed, 1_000])))


def sagittal(body: Body, contrast: Contrast, count: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """(count, 384, 384): slices two sections thick, about the midline, from the patient's right to the left."""
    first = SECTIONS // 2 - count
    images = body.sections(contrast, first, first + 2 * count)
    return _noisy(images.reshape(count, 2, PIXELS, PIXELS).mean(axis=1), rng)


def cut(volume: VoxelArray, points_mm: FloatArray, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Images of any plane: ``points_mm`` (..., 3) in the phantom's frame, ``volume`` all noiseless sections."""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    coordinates = np.stack([(x - FIRST_MM) / STEP_MM, (TOP_MM - z) / PIXEL_MM - 0.5, (y - FRONT_MM) / PIXEL_MM - 0.5])
    return _noisy(ndimage.map_coordinates(volume, coordinates, order=1, mode="constant"), rng)


def _halved(image: VoxelArray) -> VoxelArray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / np.float32(4)


def _texture(rng: np.random.Generator) -> VoxelArray:
    """Grain of about 2 mm within clouds of about 8 mm."""
    grain = ndimage.gaussian_filter(rng.standard_normal((SECTIONS, 96, 96), np.float32), (0.7, 0.7, 0.7), mode="wrap")
    clouds = ndimage.gaussian_filter(rng.standard_normal((SECTIONS, 96, 96), np.float32), (1.5, 3.5, 3.5), mode="wrap")
    both = 0.75 * grain / grain.std() + 0.65 * clouds / clouds.std()
    return np.asarray(both.repeat(2, axis=1).repeat(2, axis=2), np.float32)


def _coil_shading() -> VoxelArray:
    """(384, 384): a spine coil sees the back best; a saturation band darkens the moving abdomen; weaker at the ends."""
    y = (FRONT_MM + (np.arange(PIXELS) + 0.5) * PIXEL_MM)[None, :]
    z = (TOP_MM - (np.arange(PIXELS) + 0.5) * PIXEL_MM)[:, None]
    coil = 0.42 + 0.75 * np.exp(-np.abs(y - 90) / 75) + 0.12 * np.exp(-(((y + 150) / 40) ** 2))
    band = 1 - 0.72 / (1 + np.exp((y + 62 + 0.12 * z) / 5))
    ends = 1 - 0.35 * (np.abs(z - TOP_MM + FIELD_MM / 2) / (FIELD_MM / 2)) ** 3
    return np.asarray(coil * band * ends, np.float32)


def _noisy(images: VoxelArray, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Magnitude of signal with noise in both channels (Gudbjartsson 1995: Rician)."""
    real = images + NOISE * rng.standard_normal(images.shape, np.float32)
    imaginary = NOISE * rng.standard_normal(images.shape, np.float32)
    magnitude: NDArray[np.uint16] = np.clip(np.sqrt(real**2 + imaginary**2), 0, 4095).astype(np.uint16)
    return magnitude
