"""The DICOM attributes a de-identified radiograph keeps, and the codes that say what was done."""

from __future__ import annotations

from pydicom.dataset import Dataset

KEPT: tuple[str, ...] = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "ViewPosition",
    "BodyPartExamined",
    "PatientSex",
    "PatientAge",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PresentationLUTShape",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    "PixelData",
)
"""Attributes kept as they are: pixels, how to show them, and patient characteristics."""

HASHED_UIDS: tuple[str, ...] = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

HASHED: dict[str, str] = {"PatientID": "patient", "AccessionNumber": "accession"}
"""Identifiers replaced by their keyed hash, and the kind each is hashed under."""

_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
)


def profile_codes() -> list[Dataset]:
    """Return the items of the De-identification Method Code Sequence (PS3.16 CID 7050)."""
    items = []
    for value, meaning in _METHODS:
        item = Dataset()
        item.CodeValue = value
        item.CodingSchemeDesignator = "DCM"
        item.CodeMeaning = meaning
        items.append(item)
    return items
