"""Two patients under one Study Instance UID are told from one whose name is written in two ways."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from node.patients import are_several


def image(patient_id: str | None = "4711", name: str = "Doe^John", born: str = "", issuer: str = "") -> Dataset:
    made = Dataset()
    made.PatientName, made.PatientBirthDate = name, born
    if patient_id is not None:
        made.PatientID = patient_id
    if issuer:
        made.IssuerOfPatientID = issuer
    return made


def test_images_that_agree_are_of_one_patient() -> None:
    assert not are_several([image(), image(), image()])
    assert not are_several([image("", ""), image(None, "")]), "a phantom without a name"
    assert not are_several([])


def test_another_patient_id_is_another_patient_whatever_the_name() -> None:
    assert are_several([image("4711"), image("4711"), image("4712")])
    assert are_several([image("4711", ""), image("04711", "")])


def test_spaces_around_a_patient_id_are_padding() -> None:
    assert not are_several([image("4711"), image(" 4711 ")])


def test_the_same_number_of_two_issuers_is_two_patients() -> None:
    assert are_several([image(issuer="NORTH"), image(issuer="SOUTH")])
    assert not are_several([image(issuer="NORTH"), image()])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Doe^John", "DOE^JOHN^^^"),
        ("Doe^John", "Doe, John "),
        ("Doe^John", "DOE^JOHN^ADAM^^JR"),
        ("Müller^Jörg", "MUELLER^JOERG"),
        ("Müller^Jörg", "MULLER^JORG"),
        ("Yamada^Tarou=山田^太郎", "YAMADA^TAROU"),
        ("Doe^John", ""),
    ],
)
def test_a_name_written_in_two_ways_is_one_patient(one: str, other: str) -> None:
    images = [image(name=one), image(name=other)]
    for made in images:
        made.SpecificCharacterSet = "ISO_IR 192"
    assert not are_several(images)


def test_two_names_or_two_birth_dates_under_one_patient_id_are_two_patients() -> None:
    assert are_several([image(name="Doe^John"), image(name="Doe^Jane")])
    assert are_several([image(born="19610412"), image(born="19610413")])
    assert not are_several([image(born="19610412"), image(born="")])


def test_two_names_are_found_behind_an_image_without_one() -> None:
    assert are_several([image(name=""), image(name="Doe^John"), image(name="Roe^Jane")])


def test_a_missing_patient_id_is_the_same_patient_where_the_name_says_so() -> None:
    assert not are_several([image("4711"), image("")])
    assert are_several([image("4711"), image("", "")])
    assert are_several([image("4711"), image("", "Roe^Jane")])
