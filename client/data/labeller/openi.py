"""Open-i / Indiana University chest X-ray reports: bounded XML without document types.

A report is an ``eCitation`` whose ``AbstractText`` elements carry the sections in ``Label``
(COMPARISON, INDICATION, FINDINGS, IMPRESSION; Demner-Fushman et al., JAMIA 2016). The files need
no document type, so one is refused: without it there are no entities to expand or fetch.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET  # builds the tree only; the bytes are parsed below
from xml.parsers import expat

from ledger.errors import DataError

MAX_DEPTH = 64
"""Nesting of a real report is under ten."""


def parse_openi(data: bytes, name: str) -> tuple[str | None, str]:
    """Return the report's own identifier (``uId``), if it has one, and its text.

    Args:
        data: the file's bytes; the caller bounds their number.
        name: what errors call the file.

    Returns:
        The identifier, and the text with one "LABEL: ..." paragraph a section.

    Raises:
        DataError: not XML, with a document type or entity, nested too deeply, or no report.
    """
    root = _tree(data, name)
    sections = []
    for element in root.iter("AbstractText"):
        text = " ".join("".join(element.itertext()).split())
        if text:
            label = " ".join(element.get("Label", "FINDINGS").split()) or "FINDINGS"
            sections.append(f"{label.upper()}: {text}")
    if root.find(".//AbstractText") is None:
        raise DataError(f"{name} is XML, but not an Open-i report (it has no AbstractText)")
    identifier = next((e.get("id") for e in root.iter("uId") if e.get("id")), None)
    return identifier, "\n\n".join(sections)


def _tree(data: bytes, name: str) -> ET.Element:
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError(f"{name} nests more than {MAX_DEPTH} XML elements")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_declaration: object) -> None:
        raise DataError(f"{name} declares a document type or entity; an Open-i report has none")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"{name} is not XML (line {error.lineno})") from None
    return builder.close()
