"""Phantoms in CheXpert's layout and as DICOM files, so that each loader meets real files.

The pictures are those of the NIH layout. Labels are translated into CheXpert's vocabulary, with
blanks and uncertain labels strewn in; DICOM files vary in what hospitals' files vary in
(inverted grey scale, 12 and 16 bits, windows, rescale, padding) and carry made-up names, numbers
and dates, the bait of the de-identification tests.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from client.data.chexpert import CHEXPERT_FINDINGS, NO_FINDING, PERSONAL
from client.data.records import FINDINGS
from simulation.phantom_film import render
from simulation.phantom_lateral import render_lateral
from simulation.phantom_patients import Visit, held_patients, patient_visits

Progress = Callable[[int, int], None]

_DX = UID("1.2.840.10008.5.1.4.1.1.1.1")  # Digital X-Ray Image Storage - For Presentation
_ROOT = "2.25"  # UIDs made from numbers, PS3.5 B.2

_CHEXPERT = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "Effusion": ("Pleural Effusion",),
    "Infiltration": ("Lung Opacity",),
    "Mass": ("Lung Lesion",),
    "Nodule": ("Lung Lesion",),
    "Pneumonia": ("Pneumonia", "Lung Opacity"),
    "Pneumothorax": ("Pneumothorax",),
    "Consolidation": ("Consolidation", "Lung Opacity"),
    "Edema": ("Edema", "Lung Opacity"),
    "Pleural_Thickening": ("Pleural Other",),
}
_FAMILIES = ("Moreau", "Okafor", "Lindqvist", "Tanaka", "Barros", "Novak", "Haddad", "Byrne")
_GIVEN = ("Ines", "Chidi", "Astrid", "Kenji", "Rosa", "Pavel", "Layla", "Declan")


def write_chexpert(
    root: Path, patients: int, seed: int, size: int, test_share: float, progress: Progress | None
) -> int:
    """Write ``CheXpert-v1.0-small`` under ``root`` and return how many images it holds."""
    release = "CheXpert-v1.0-small"
    held = held_patients(patients, test_share)
    rows: dict[str, list[list[object]]] = {"train": [], "valid": []}
    for patient in range(1, patients + 1):
        part = "valid" if patient <= held else "train"
        for visit, rng in patient_visits(patient, seed):
            place = f"{part}/patient{patient:05d}/study{visit.follow_up + 1}"
            (root / release / place).mkdir(parents=True, exist_ok=True)
            labels = _chexpert_labels(visit, rng, doubtful=part == "train")
            films = [("view1_frontal", "Frontal", render(visit, size, rng))]
            if visit.view == "PA" and rng.random() < 0.4:
                films.append(("view2_lateral", "Lateral", render_lateral(visit, size, rng)))
            for name, side, film in films:
                (root / release / place / f"{name}.jpg").write_bytes(encode_jpeg(film))
                path = f"{release}/{place}/{name}.jpg"
                sex = "Male" if visit.sex == "M" else "Female"
                view = visit.view if side == "Frontal" else ""
                rows[part].append([path, sex, min(visit.age, 90), side, view, *labels])
        if progress is not None:
            progress(patient, patients)
    for part, lines in rows.items():
        with (root / release / f"{part}.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow([*PERSONAL, NO_FINDING, *CHEXPERT_FINDINGS])
            writer.writerows(lines)
    return sum(len(lines) for lines in rows.values())


def write_dicom(root: Path, patients: int, seed: int, size: int, progress: Progress | None) -> int:
    """Write DICOM files and labels.csv under ``root`` and return how many images it holds."""
    rows: list[list[object]] = []
    for patient in range(1, patients + 1):
        for visit, rng in patient_visits(patient, seed):
            dataset = dicom_file(visit, render(visit, size, rng), rng, seed)
            folder = root / f"PAT{patient:05d}" / f"ST{visit.follow_up:03d}"
            folder.mkdir(parents=True)
            dataset.save_as(folder / "IM000001.dcm", enforce_file_format=True)
            rows.append([dataset.SOPInstanceUID, *(int(f in visit.severity) for f in FINDINGS)])
        if progress is not None:
            progress(patient, patients)
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image", *FINDINGS])
        writer.writerows(rows)
    return len(rows)


def encode_jpeg(film: NDArray[np.uint8]) -> bytes:
    """Return the JPEG file of (H, W) uint8 pixels, quality 95."""
    _ok, data = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return bytes(data)


def _chexpert_labels(visit: Visit, rng: np.random.Generator, *, doubtful: bool) -> list[str]:
    present = {name for finding in visit.severity for name in _CHEXPERT.get(finding, ())}
    if visit.view == "AP" and rng.random() < 0.5:
        present.add("Support Devices")
    cells = []
    for finding in CHEXPERT_FINDINGS:
        cell = "1.0" if finding in present else "0.0"
        if doubtful and rng.random() < (0.15 if finding in present else 0.03):
            cell = "-1.0"
        elif doubtful and finding not in present and rng.random() < 0.7:
            cell = ""
        cells.append(cell)
    healthy = not present - {"Support Devices"} and "-1.0" not in cells
    return ["1.0" if healthy else ("" if doubtful else "0.0"), *cells]


def dicom_file(
    visit: Visit, film: NDArray[np.uint8], rng: np.random.Generator, seed: int
) -> FileDataset:
    """Return one film as a DICOM radiograph with a made-up person in its header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _DX
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    number = (seed << 40) + (visit.patient << 10) + visit.follow_up
    meta.MediaStorageSOPInstanceUID = UID(f"{_ROOT}.{number}1")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = _DX, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = UID(f"{_ROOT}.{number}2")
    dataset.SeriesInstanceUID = UID(f"{_ROOT}.{number}3")
    _person(dataset, visit, number)
    _pixels(dataset, film, rng)
    return dataset


def _person(dataset: Dataset, visit: Visit, number: int) -> None:
    family = _FAMILIES[visit.patient % len(_FAMILIES)]
    given = _GIVEN[visit.patient // len(_FAMILIES) % len(_GIVEN)]
    seen = date(2019, 1, 7) + timedelta(days=37 * visit.follow_up + visit.patient % 365)
    dataset.Modality = "DX"
    dataset.PatientName = f"{family}^{given}"
    dataset.PatientID = f"MRN-{visit.patient:07d}"
    dataset.PatientBirthDate = f"{seen.year - visit.age:04d}0105"
    dataset.PatientSex = visit.sex
    dataset.PatientAge = f"{visit.age:03d}Y"
    dataset.PatientAddress = f"{visit.patient} Harbour Row"
    dataset.StudyDate = seen.strftime("%Y%m%d")
    dataset.StudyTime = "101500"
    dataset.AccessionNumber = f"ACC{number % 10**12:012d}"
    dataset.ReferringPhysicianName = "Quill^Marten"
    dataset.InstitutionName = "Saint Elswith Infirmary"
    dataset.StudyDescription = f"CHEST {visit.view}"
    dataset.ViewPosition = visit.view
    dataset.BodyPartExamined = "CHEST"
    dataset.BurnedInAnnotation = "NO"  # a side marker names nobody


def _pixels(dataset: FileDataset, film: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Store the film in one of the ways that real files differ in."""
    bits = int(rng.choice([8, 10, 12, 14, 16]))
    inverted = bool(rng.random() < 0.4)
    top = (1 << bits) - 1
    shown = (255 - film if inverted else film).astype(np.float64) / 255
    windowed = bits > 8 and rng.random() < 0.6
    low, high = (0.1, 0.8) if windowed else (0.0, 1.0)
    stored = np.rint((low + (high - low) * shown) * top)
    dataset.Rows, dataset.Columns = film.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated = 8 if bits == 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    if windowed:
        slope, intercept = (2, -100) if rng.random() < 0.5 else (1, 0)
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.RescaleType = "US"
        dataset.WindowCenter = round((low + high) / 2 * top * slope + intercept)
        dataset.WindowWidth = round((high - low) * top * slope)
        dataset.VOILUTFunction = "LINEAR"
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    dataset.set_pixel_data(
        stored.astype(kind),
        dataset.PhotometricInterpretation,
        bits,
        generate_instance_uid=False,
    )
    if rng.random() < 0.25:
        dataset.compress(RLELossless, generate_instance_uid=False)
