"""Faults of MR images, simulated on good ones: (rows, columns) in, the same out, scaled to the 99th percentile."""

from __future__ import annotations

import numpy as np

from inference.volume import FloatArray


def noisy(image: FloatArray, share: float, rng: np.random.Generator) -> FloatArray:
    """Rician: noise of so much of the brightest signal in both channels."""
    real, imaginary = rng.normal(scale=share, size=(2, *image.shape))
    return np.abs(_scaled(image) + real + 1j * imaginary)


def moving(image: FloatArray, shift_px: float, axis: int, period_lines: float) -> FloatArray:
    """The patient moves to and fro along ``axis``, the phase encoding direction, once every so many lines."""
    lines = np.fft.fftfreq(image.shape[axis])
    time = np.argsort(np.argsort(lines))
    position_px = shift_px * np.sin(2 * np.pi * time / period_lines + 1.0)
    phase = np.exp(-2j * np.pi * lines * position_px)
    spectrum = np.moveaxis(np.fft.fft(_scaled(image), axis=axis), axis, -1) * phase
    return np.abs(np.fft.ifft(np.moveaxis(spectrum, -1, axis), axis=axis))


def folded(image: FloatArray, share: float, axis: int) -> FloatArray:
    """A field of view that is smaller by ``share`` along ``axis``: what lies beyond appears at the other edge."""
    lines = np.moveaxis(_scaled(image), axis, 0)
    beyond = int(len(lines) * share)
    kept = lines[: len(lines) - beyond].copy()
    kept[:beyond] += lines[len(lines) - beyond :]
    return np.moveaxis(kept, 0, axis)


def _scaled(image: FloatArray) -> FloatArray:
    return np.asarray(image, np.float64) / np.percentile(image, 99)
