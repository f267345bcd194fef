"""Whether the images of a study are of one patient, by their headers. Pure.

Scanners give a Study Instance UID twice, and images are filed under the wrong patient; results made of such a study
would be filed under one of the two. Strict on the Patient ID, lenient on how a name is written.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset

SEVERAL = "images of more than one patient under one Study Instance UID: not graded"
_DATE_DIGITS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class _Patient:
    """As one image has it (PS3.3 section C.7.1.1); what is missing is empty."""

    patient_id: str
    issuer: str
    name: frozenset[str]
    """Its words, without what writers differ in: case, accents, order, separators."""
    birth_date: str


def are_several(instances: Iterable[Dataset]) -> bool:
    """True when two of the objects cannot be of the same patient, or nothing says that they are."""
    patients = {_patient_of(instance) for instance in instances}
    return any(_differ(one, other) for one, other in itertools.combinations(patients, 2))


def _patient_of(instance: Dataset) -> _Patient:
    birth_date = re.sub(r"\D", "", str(instance.get("PatientBirthDate") or ""))
    return _Patient(
        patient_id=str(instance.get("PatientID") or "").strip(),
        issuer=str(instance.get("IssuerOfPatientID") or "").strip(),
        name=_words(str(instance.get("PatientName") or "")),
        birth_date=birth_date if len(birth_date) == _DATE_DIGITS else "",
    )


def _words(name: str) -> frozenset[str]:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return frozenset(re.findall(r"\w+", re.sub("([aou])e", r"\1", plain)))  # Mueller is Müller


def _differ(one: _Patient, other: _Patient) -> bool:
    # one has a middle name, a title or another alphabet that the other lacks; a missing name differs from none
    if not (one.name <= other.name or other.name <= one.name):
        return True
    pairs = ((one.birth_date, other.birth_date), (one.issuer, other.issuer))
    if any(mine and theirs and mine != theirs for mine, theirs in pairs):
        return True
    if one.patient_id == other.patient_id:
        return False
    # for a Patient ID that is missing the name may vouch, for another one it may not
    return bool(one.patient_id and other.patient_id) or not (one.name and other.name)
