"""Find what a radiograph shows beside the chest: burnt-in text, devices, the abdomen.

Detection is on the raw film (reduced to at most 512 px, where its sizes are meant); what is found
is filled in at native resolution. Each mask is bounded, so that a film on which a rule fails is
left alone rather than destroyed:

    abdomen   the rows well below both lungs. Lungs are the dark regions inside the body (Otsu's
              threshold, Otsu 1979); the deeper of their two bases counts, so that fluid or a
              raised diaphragm on one side is not cut away. (Removing the brightest region, as
              Heidari et al. 2020 do, takes the heart with it.)
    text      small saturated regions of character size with sharp edges, in the outer margin
    devices   thin bright lines: what a white top-hat lifts out, long and slender

These are heuristics of image processing, not a segmentation that was validated on patients.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from client.data.images import Grey

Mask = NDArray[np.uint8]
"""(H, W) uint8, 255 where masked."""

DETECT_SIDE = 512
ABDOMEN_BELOW = 0.08
"""Share of the height that is left under the lungs."""
ABDOMEN_MOST = 0.22
LUNG_LEAST = 0.02
"""Smallest share of the film that counts as a lung."""
TEXT_MARGIN = 0.22
TEXT_MOST = 0.03
DEVICE_RISE = 22
"""Grey levels a device stands over what lies beside it."""
DEVICE_MOST = 0.06


def mask_non_diagnostic(film: Grey, shown: Grey | None = None) -> Grey:
    """Return ``shown`` with the abdomen flattened and text and devices painted over.

    Args:
        film: (H, W) the raw film, where detection happens.
        shown: (H, W) the film to fill, after other steps; None fills ``film``.

    Returns:
        a new (H, W) uint8.
    """
    out = (film if shown is None else shown).copy()
    scale = min(1.0, DETECT_SIDE / max(film.shape))
    small = film
    if scale < 1.0:
        reduced = cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = np.asarray(reduced, dtype=np.uint8)
    overlay = _native(np.maximum(find_text(small), find_devices(small)), film)
    if overlay.any():
        out = np.asarray(cv2.inpaint(out, overlay, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
    abdomen = _native(find_abdomen(small), film) > 0
    if abdomen.any():
        out[abdomen] = np.uint8(round(float(out[~abdomen].mean())))  # zero after normalisation
    return out


def find_abdomen(film: Grey) -> Mask:
    """Return the mask of the rows below both lungs (empty where no two lungs are found)."""
    height, width = film.shape
    mask: Mask = np.zeros_like(film)
    smooth = cv2.GaussianBlur(film, (0, 0), max(film.shape) / 100)
    level, _ = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = (smooth < level).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(dark)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right = left + stats[:, cv2.CC_STAT_WIDTH]
    base = top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < width) & (base < height)
    lungs = inside & (stats[:, cv2.CC_STAT_AREA] >= LUNG_LEAST * film.size)
    lungs[0] = False
    sides = centres[lungs, 0] < width / 2
    if not (sides.any() and (~sides).any()):
        return mask
    cut = int(base[lungs].max() + ABDOMEN_BELOW * height)
    if cut >= (1 - ABDOMEN_MOST) * height:
        mask[cut:] = 255
    return mask


def _native(mask: Mask, film: Grey) -> Mask:
    """Return a mask found on the reduced film at the film's own size."""
    if mask.shape == film.shape:
        return mask
    wide = cv2.resize(mask, film.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(wide, dtype=np.uint8)


def find_text(film: Grey) -> Mask:
    """Return the mask of burnt-in characters near the borders."""
    height, width = film.shape
    side = min(height, width)
    saturated = (film >= 200).astype(np.uint8)
    lifted = _tophat(film, max(5, side // 30) | 1) > 50  # strokes are thin, bones are not
    _, labels, stats, _ = cv2.connectedComponentsWithStats(saturated & lifted)
    tall, wide = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    x = stats[:, cv2.CC_STAT_LEFT] + wide / 2
    y = stats[:, cv2.CC_STAT_TOP] + tall / 2
    margin = np.minimum(np.minimum(x, width - x) / width, np.minimum(y, height - y) / height)
    sized = (tall >= side / 100) & (tall <= side / 8) & (wide <= side / 8)
    chosen = np.flatnonzero(sized & (margin <= TEXT_MARGIN))
    return _bounded(np.isin(labels, chosen[chosen > 0]), TEXT_MOST, side)


def find_devices(film: Grey) -> Mask:
    """Return the mask of thin bright lines: leads, tubes, lines, wires."""
    side = min(film.shape)
    lifted = _tophat(film, max(5, side // 40) | 1) > DEVICE_RISE
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lifted.astype(np.uint8))
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    thickness = stats[:, cv2.CC_STAT_AREA] / np.maximum(length, 1)
    chosen = np.flatnonzero((length >= side / 8) & (thickness <= side / 50))
    return _bounded(np.isin(labels, chosen[chosen > 0]), DEVICE_MOST, side)


def _tophat(film: Grey, side: int) -> Grey:
    kernel = np.ones((side, side), dtype=np.uint8)  # a square is separable, hence quick
    return np.asarray(cv2.morphologyEx(film, cv2.MORPH_TOPHAT, kernel), dtype=np.uint8)


def _bounded(found: NDArray[np.bool_], most: float, side: int) -> Mask:
    """Return the mask, grown by a little; empty where it covers more than a sane share."""
    if not found.any() or found.mean() > most:
        return np.zeros(found.shape, dtype=np.uint8)
    grow = max(3, side // 150) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow))
    return np.asarray(cv2.dilate(found.astype(np.uint8) * 255, kernel), dtype=np.uint8)
