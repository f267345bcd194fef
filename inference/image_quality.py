"""What the pixels themselves tell of how good an image is: noise, ghosts of motion, fold-over, empty slices, few greys.

Sentences for the reader, no refusals: whether the spine can still be found is detection's to say. The limits lie above
what one half of SPIDER's T2 images show, and were tried on the other half, its stacks and on simulated faults
(``tests/realdata/test_image_quality.py`` says how many of each are seen).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.volume import FloatArray, SagittalVolume, upright, without_margins

NOISY = 0.09
"""Noise, as a share of the tissue's median signal (SPIDER: 0.02 in the median, 0.08 at most)."""
GHOSTLY = (0.042, 0.05)
"""How much of the fine structure repeats at a distance along rows' and columns' direction (SPIDER: at most 0.027 and
0.041; the synthetic study of ``inference.phantom`` 0.037 and 0.045). Shifted copies are what motion during phase
encoding leaves (Wood and Henkelman 1985)."""
FOLDED = 0.4
"""Correlation of the fine structure of the first and last row, or of the first and last column (SPIDER: at most 0.35):
an image that folds over goes on at its opposite edge."""
EDGE_FINE_PX = 6.0
"""Structure along an edge finer than this Gaussian's width is compared: bodies are alike in their coarse one."""
EDGE_SIGNAL = 0.1
"""Both edges have at least this share of the tissue's signal where tissue folds over."""
NARROW_MM = 30.0
"""Slices that cover less than this across show the canal and not the foramina to either side of it (lumbar vertebral
bodies are 40-55 mm wide)."""
FEW_GREYS = 32
MIDDLE_SLICES = 3
"""The slices in the middle of the stack are looked at: those at its ends show muscle and partial volume."""
FINE_PX = 3.0
"""Structure finer than this Gaussian's width is looked at for ghosts: coarse structure resembles itself anyway."""
NEAREST_GHOST_MM = 19.0
"""Nearer copies cannot be told from anatomy, which is alike at short distances."""
LEAST_PX = 64
"""Smaller images are not judged."""


def remarks_on(volume: SagittalVolume) -> tuple[str, ...]:
    """What a reader should know; empty for a good image."""
    seen = upright(without_margins(volume))
    return (*_of_stack(seen), *_of_slices(seen))


def noise(tissue_scaled: FloatArray) -> float:
    """Standard deviation of the noise: median absolute second difference across both axes, where there is tissue.

    Argument (rows, columns) with the median of tissue at 1. The diagonal detail holds the least anatomy (Donoho 1994).
    """
    a = tissue_scaled
    detail = (a[1:, 1:] - a[1:, :-1] - a[:-1, 1:] + a[:-1, :-1]) / 2
    tissue = ndimage.uniform_filter(a, 9)[1:, 1:] > 0.5
    return float(np.median(np.abs(detail[tissue])) / 0.6745) if tissue.any() else 0.0


def ghosts(tissue_scaled: FloatArray, pixel_mm: tuple[float, float]) -> tuple[float, float]:
    """The highest peak of the fine structure's autocorrelation along rows' and along columns' direction, 0-1.

    A peak is what stands above its neighbours, from ``NEAREST_GHOST_MM`` to half of the image away.
    """
    fine = tissue_scaled - ndimage.gaussian_filter(tissue_scaled, FINE_PX)
    fine = fine - fine.mean()
    power = np.abs(np.fft.rfft2(fine)) ** 2
    correlation = np.fft.irfft2(power, fine.shape)
    if correlation[0, 0] <= 0:
        return 0.0, 0.0
    lines = (correlation[:, 0] / correlation[0, 0], correlation[0] / correlation[0, 0])
    down, along = (_highest_peak(line, NEAREST_GHOST_MM / step) for line, step in zip(lines, pixel_mm, strict=True))
    return down, along


def fold_over(tissue_scaled: FloatArray) -> tuple[float, float]:
    """Correlation of first and last row, and of first and last column; 0 where an edge shows no tissue."""
    down, along = (_continues(np.moveaxis(tissue_scaled, axis, 0)) for axis in (0, 1))
    return down, along


def _of_stack(seen: SagittalVolume) -> list[str]:
    sentences = []
    empty = int((seen.voxels.max(axis=(1, 2)) == seen.voxels.min(axis=(1, 2))).sum())
    if empty:
        sentences.append(f"{empty} slice(s) of the series are empty.")
    count, across_mm = len(seen.voxels), len(seen.voxels) * seen.spacing_mm[0]
    if count > 1 and across_mm < NARROW_MM:
        sentences.append(
            f"The slices cover only {across_mm:.0f} mm from side to side: findings beside the midline may be missing."
        )
    greys = len(np.unique(seen.voxels[count // 2]))
    if greys < FEW_GREYS:
        sentences.append(f"The images have only {greys} grey values: signals and grades may be less exact.")
    return sentences


def _of_slices(seen: SagittalVolume) -> list[str]:
    count = len(seen.voxels)
    if min(seen.voxels.shape[1:]) < LEAST_PX:
        return []
    first = max(0, (count - MIDDLE_SLICES) // 2)
    middle = [_tissue_scaled(each) for each in seen.voxels[first : first + MIDDLE_SLICES].astype(np.float64)]
    sentences = []
    if np.median([noise(each) for each in middle]) > NOISY:
        sentences.append("The images are noisy: grades may be less exact.")
    if (np.median([ghosts(each, seen.spacing_mm[1:]) for each in middle], axis=0) > GHOSTLY).any():
        sentences.append("The images seem to show ghosts, as of motion: grades may be less exact.")
    if (np.median([fold_over(each) for each in middle], axis=0) > FOLDED).any():
        sentences.append("The images seem to fold over (tissue beyond the field of view appears at the opposite edge).")
    return sentences


def _tissue_scaled(image: FloatArray) -> FloatArray:
    """With the median of tissue (what has more than a fifth of the brightest signal) at 1."""
    bright = float(np.percentile(image, 99))
    tissue = image > 0.2 * bright
    scale = float(np.median(image[tissue])) if bright > 0 and tissue.any() else 1.0
    scaled: FloatArray = image / scale
    return scaled


def _highest_peak(line: FloatArray, nearest: float) -> float:
    far = line[round(nearest) : len(line) // 2 + 1]
    return float((far - ndimage.median_filter(far, 9)).max(initial=0.0))


def _continues(lines: FloatArray) -> float:
    first, last = lines[:2].mean(axis=0), lines[-2:].mean(axis=0)
    if min(first.mean(), last.mean()) < EDGE_SIGNAL:
        return 0.0
    fine = [edge - ndimage.gaussian_filter1d(edge, EDGE_FINE_PX) for edge in (first, last)]
    if min(edge.std() for edge in fine) < 1e-6:
        return 0.0
    return float(np.corrcoef(*fine)[0, 1])
