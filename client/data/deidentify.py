"""Replace what names a patient by what only this site can link back.

Identifiers become keyed hashes: HMAC-SHA256 (RFC 2104) under a key that is drawn on site, kept in
a private file and never written beside the data. Without the key, a hash cannot be tested against
a guessed identifier (a plain hash of a record number can: there are few of them).

For DICOM the rule is an allow-list, stricter than the Basic Application Level Confidentiality
Profile of PS3.15 annex E: every attribute not named in ``KEPT`` or ``HASHED`` is removed, private
ones and all dates among them. Age and sex are kept under the profile's Retain Patient
Characteristics Option (ages over 89 become 90, as 45 CFR 164.514(b)(2)(i)(C) groups them).
Pixels are not made safe by this: burnt-in names are the mask step's part, and no promise.
"""

from __future__ import annotations

import base64
import hmac
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from client.data.dicom_codes import HASHED, HASHED_UIDS, KEPT, profile_codes
from client.data.records import Cohort
from ledger.errors import BadKey, EvidenceMissing, OutputError
from ledger.private import read_private

KEY_BYTES = 32
OLDEST = 90
_HASH_TEXT = 26
"""Characters of a hash that are kept: 130 of 256 bits."""


class SiteKey:
    """The secret that links hashes to identifiers; it never leaves the site."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise BadKey(f"a site key has {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "SiteKey(...)"

    def pseudonym(self, kind: str, identifier: str) -> str:
        """Return the keyed hash of an identifier: 26 characters of a to z and 2 to 7.

        Args:
            kind: what is hashed ("patient", "image", "uid"); kinds never share a hash.
            identifier: the identifier itself.
        """
        digest = self._digest(kind, identifier)
        return base64.b32encode(digest).decode().lower()[:_HASH_TEXT]

    def uid(self, original: str) -> UID:
        """Return a DICOM UID for an original one: 2.25 and a hashed number (PS3.5 B.2)."""
        number = int.from_bytes(self._digest("uid", original)[:15], "big")
        return UID(f"2.25.{number}")

    def _digest(self, kind: str, identifier: str) -> bytes:
        tag = kind.encode()
        message = len(tag).to_bytes(2, "big") + tag + identifier.encode()
        return hmac.new(self._secret, message, sha256).digest()


def open_site_key(path: Path) -> SiteKey:
    """Read a site key, or draw one where there is no file yet (from the system's entropy).

    Raises:
        InsecureKeyFile: others can read the file.
        BadKey: it does not hold 64 hexadecimal digits.
        OutputError: a new key cannot be written.
    """
    try:
        text = read_private(path)
    except EvidenceMissing:
        if path.is_symlink() or path.exists():
            raise
        draw_key(path)
        text = read_private(path)
    try:
        return SiteKey(bytes.fromhex(text.decode("ascii").strip()))
    except ValueError:
        raise BadKey(f"{path} is not a site key of {2 * KEY_BYTES} hexadecimal digits") from None


def draw_key(path: Path) -> None:
    """Write a new key, never over another: two processes at once shall share one.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from None


def deidentify(cohort: Cohort, key: SiteKey) -> Cohort:
    """Return the cohort with hashed patients and images, and ages over 89 as 90.

    The records' image paths are the originals: they are where the pixels are read, and are
    written nowhere.
    """
    records = tuple(
        replace(
            r,
            patient=key.pseudonym("patient", f"{r.source}\0{r.patient}"),
            image_id=key.pseudonym("image", f"{r.source}\0{r.image_id}"),
            age=None if r.age is None else min(r.age, OLDEST),
        )
        for r in cohort.records
    )
    return replace(cohort, records=records)


def deidentify_dicom(dataset: FileDataset, key: SiteKey) -> FileDataset:
    """Return a new DICOM file that holds the allow-listed attributes and the pixels only.

    Args:
        dataset: a parsed radiograph; it is not changed.
        key: the site's key.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = key.uid(str(dataset.SOPInstanceUID))
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    clean = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in KEPT:
        if keyword in dataset:
            clean[keyword] = dataset[keyword]
    for keyword in HASHED_UIDS:
        if keyword in dataset:
            setattr(clean, keyword, key.uid(str(dataset[keyword].value)))
    for keyword, kind in HASHED.items():
        if dataset.get(keyword):
            setattr(clean, keyword, key.pseudonym(kind, str(dataset[keyword].value).strip()))
    clean.PatientName = ""
    clean.PatientBirthDate = ""
    years = str(clean.get("PatientAge", ""))
    if years.endswith("Y") and years[:-1].isdigit() and int(years[:-1]) > OLDEST - 1:
        clean.PatientAge = f"{OLDEST:03d}Y"
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = "allow-list; keyed hashes"
    clean.DeidentificationMethodCodeSequence = Sequence(profile_codes())
    return clean
