"""Find what a radiograph shows beside the chest: burnt-in text, devices, the abdomen.

Detection is on the raw film (reduced to at most 512 px, where its sizes are meant); what is found
is filled in at native resolution. Each mask is bounded, so that a film on which a rule fails is
left alone rather than destroyed:

    abdomen   the rows well below both lungs. Lungs are the dark regions inside the body (Otsu's
              threshold, Otsu 1979); the deeper of their two bases counts, so that fluid or a
              raised diaphragm on one side is not cut away. (Removing the brightest region, as
              Heidari et al. 2020 do, takes the heart with it.)
    text      rows of thin, sharp strokes of character size in the outer margin, brighter or darker
              than what is around; saturated characters that stand alone; labels on white
    devices   thin bright lines: what a white top-hat lifts out, long and slender

These are heuristics of image processing, not a segmentation that was validated on patients, and
off unless asked for. What they find and spare is measured (``simulation.mask_figures``): faint
leads are mostly missed, and plain text that is hard to read.
"""

from __future__ import annotations

from typing import Any

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
TEXT_MOST = 0.10
TEXT_RISE = 28
"""Grey levels a stroke stands over or under what lies beside it."""
TEXT_EDGE = 40
"""Grey levels its edge rises within three pixels: letters are sharp, bones are not."""
DEVICE_RISE = 22
"""Grey levels a device stands over what lies beside it."""
DEVICE_SLIM = 80
"""A device is at most this part of the side thick: 4 mm on a film of 35 cm."""
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
    """Return the mask of burnt-in characters near the borders: whole lines, and labels' boxes."""
    side = min(film.shape)
    found = np.zeros(film.shape, dtype=bool)
    for lifted in (_lifted(film, cv2.MORPH_TOPHAT), _lifted(film, cv2.MORPH_BLACKHAT)):
        found |= _lines_of_text(lifted)
    found |= _single_marks(film) | _label_boxes(film)
    return _bounded(found, TEXT_MOST, side)


def _lifted(film: Grey, how: int) -> NDArray[np.uint8]:
    """Return 1 where a thin, sharp stroke stands out, brighter or darker than what is around."""
    side = min(film.shape)
    thin = cv2.morphologyEx(film, how, _square(max(5, side // 30) | 1))
    edge = cv2.morphologyEx(film, cv2.MORPH_GRADIENT, _square(3))
    sharp = cv2.dilate((edge > TEXT_EDGE).astype(np.uint8), _square(3))
    return np.asarray((thin > TEXT_RISE) & (sharp > 0), dtype=np.uint8)


def _lines_of_text(strokes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the boxes of rows of at least three characters near a border."""
    height, width = strokes.shape
    side = min(height, width)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(strokes)
    tall, wide = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    sized = (tall >= side / 100) & (tall <= side / 12) & (wide <= side / 8)
    sized &= stats[:, cv2.CC_STAT_AREA] >= 4
    sized[0] = False
    characters = sized[labels].astype(np.uint8)
    gap = max(3, side // 16) | 1
    joined = cv2.morphologyEx(characters, cv2.MORPH_CLOSE, np.ones((1, gap), dtype=np.uint8))
    _, rows, boxes, _ = cv2.connectedComponentsWithStats(joined)
    count = np.zeros(len(boxes), dtype=np.int64)
    for row in rows[_middles(np.asarray(labels, dtype=np.int32), sized)]:
        count[row] += 1
    found = np.zeros(strokes.shape, dtype=bool)
    for number in range(1, len(boxes)):
        x, y, w, h = (int(value) for value in boxes[number][:4])
        inside = _margin(x + w / 2, y + h / 2, width, height) <= TEXT_MARGIN
        if count[number] >= 3 and inside and h <= side / 8 and w >= 1.5 * h:
            found[y : y + h, max(0, x - h) : x + w + h] = True  # and a letter that touches more
    return found


def _middles(
    labels: NDArray[np.int32], sized: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return one pixel (row, column) of every chosen component."""
    flat = labels.ravel()
    numbers, first = np.unique(flat, return_index=True)
    first = first[sized[numbers]]
    rows, columns = np.unravel_index(first, labels.shape)
    return rows.astype(np.int64), columns.astype(np.int64)


def _single_marks(film: Grey) -> NDArray[np.bool_]:
    """Return saturated characters that stand alone, such as a side marker."""
    height, width = film.shape
    side = min(height, width)
    strokes = (film >= 200) & (_tophat(film, max(5, side // 30) | 1) > 50)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8))
    tall, wide = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    x = stats[:, cv2.CC_STAT_LEFT] + wide / 2
    y = stats[:, cv2.CC_STAT_TOP] + tall / 2
    sized = (tall >= side / 100) & (tall <= side / 8) & (wide <= side / 8)
    chosen = sized & (_margin(x, y, width, height) <= TEXT_MARGIN)
    chosen[0] = False
    return np.asarray(chosen[labels], dtype=bool)


def _label_boxes(film: Grey) -> NDArray[np.bool_]:
    """Return bright rectangles near a border: labels that were printed on white."""
    height, width = film.shape
    side = min(height, width)
    white = cv2.morphologyEx(
        (film >= 245).astype(np.uint8), cv2.MORPH_CLOSE, _square(side // 60 | 1)
    )
    _, labels, stats, _ = cv2.connectedComponentsWithStats(white)
    found = np.zeros(film.shape, dtype=bool)
    for number in range(1, len(stats)):
        x, y, w, h, area = (int(value) for value in stats[number][:5])
        if min(w, h) < side / 60 or max(w, h) > width / 2 or area < 0.85 * w * h:
            continue
        if _margin(x + w / 2, y + h / 2, width, height) > TEXT_MARGIN:
            continue
        ring = np.s_[max(0, y - 4) : y + h + 4, max(0, x - 4) : x + w + 4]
        around = film[ring][labels[ring] != number]
        if around.size and np.median(around) < 205:
            found[y : y + h, x : x + w] = True
    return found


def find_devices(film: Grey) -> Mask:
    """Return the mask of thin bright lines: leads, tubes, lines, wires."""
    side = min(film.shape)
    lifted = _tophat(film, max(5, side // 40) | 1) > DEVICE_RISE
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lifted.astype(np.uint8))
    length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    thickness = stats[:, cv2.CC_STAT_AREA] / np.maximum(length, 1)
    chosen = np.flatnonzero((length >= side / 8) & (thickness <= side / DEVICE_SLIM))
    return _bounded(np.isin(labels, chosen[chosen > 0]), DEVICE_MOST, side)


def _margin(x: Any, y: Any, width: int, height: int) -> Any:
    """Return how far points lie from the nearest border, as a share of the side."""
    return np.minimum(np.minimum(x, width - x) / width, np.minimum(y, height - y) / height)


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), dtype=np.uint8)  # a square is separable, hence quick


def _tophat(film: Grey, side: int) -> Grey:
    return np.asarray(cv2.morphologyEx(film, cv2.MORPH_TOPHAT, _square(side)), dtype=np.uint8)


def _bounded(found: NDArray[np.bool_], most: float, side: int) -> Mask:
    """Return the mask, grown by a little; empty where it covers more than a sane share."""
    if not found.any() or found.mean() > most:
        return np.zeros(found.shape, dtype=np.uint8)
    grow = max(3, side // 150) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grow, grow))
    return np.asarray(cv2.dilate(found.astype(np.uint8) * 255, kernel), dtype=np.uint8)
