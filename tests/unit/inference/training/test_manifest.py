"""A hospital's own list: what each line teaches, and what is said of a line that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.anatomy import DiscLevel
from inference.training import manifest
from inference.training.graded_series import DataSetError, GradedData

HEADER = "patient,study,level,pfirrmann,disc_narrowing,central_canal_stenosis"


def read(root: Path, *lines: str, header: str = HEADER) -> GradedData:
    for name in ("one", "two"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "1.dcm").write_bytes(b"")
    (root / "scan.nii.gz").touch()
    (root / "notes.txt").touch()
    (root / "manifest.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return manifest.read(root)


def test_lines_of_one_study_are_one_series_and_studies_of_one_patient_stay_together(tmp_path: Path) -> None:
    data = read(
        tmp_path, "anna,one,L4/L5,4,2,0", "anna,one,L5/S1,3,,", "bo,two,L5/S1,1,1,1", "anna,scan.nii.gz,L1/L2,2,,"
    )
    assert [(series.name, series.patient) for series in data.series] == [("line 2", 1), ("line 4", 2), ("line 5", 1)]
    assert data.patients == {1: "anna", 2: "bo"}
    assert data.series[0].labels == {
        DiscLevel.L4_L5: {"pfirrmann": 4, "disc_narrowing": 1, "central_canal_stenosis": 0},
        DiscLevel.L5_S1: {"pfirrmann": 3},
    }


@pytest.mark.parametrize(("written", "taught"), [("1", 0), ("2", 1), ("3", 1), ("4", 1)])
def test_narrowing_is_written_in_four_steps_and_taught_as_none_or_some(
    tmp_path: Path, written: str, taught: int
) -> None:
    data = read(tmp_path, f"anna,one,L4/L5,,{written},")
    assert data.series[0].labels[DiscLevel.L4_L5] == {"disc_narrowing": taught}


@pytest.mark.parametrize(
    ("cells", "taught"),
    [
        ("0,0,", {"marrow_change": 0}),
        ("0,1,", {"marrow_change": 1}),
        ("1,,", {"marrow_change": 1}),
        ("0,,", {}),  # nobody looked at the other side
        (",,1", {"marrow_change": 1}),
        (",,0", {"marrow_change": 0}),
    ],
)
def test_marrow_changed_on_either_side_is_a_change(tmp_path: Path, cells: str, taught: dict[str, int]) -> None:
    header = "patient,study,level,upper_marrow_change,lower_marrow_change,marrow_change"
    data = read(tmp_path, f"anna,one,L4/L5,{cells}", header=header)
    assert data.series[0].labels[DiscLevel.L4_L5] == taught


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",one,L4/L5,4,,", "line 2: patient is empty"),
        ("anna,,L4/L5,4,,", "line 2: study is empty"),
        ("anna,nowhere,L4/L5,4,,", "line 2: study is neither a folder nor"),
        ("anna,notes.txt,L4/L5,4,,", "line 2: study is neither a folder nor"),
        ("anna,one,L4-L5,4,,", 'line 2: level is "L4-L5": give one of'),
        ("anna,one,L6/S1,4,,", 'line 2: level is "L6/S1"'),
        ("anna,one,L4/L5,6,,", 'line 2: pfirrmann is "6": give one of 1, 2, 3, 4, 5, or leave it empty'),
        ("anna,one,L4/L5,4.0,,", 'line 2: pfirrmann is "4.0"'),
        ("anna,one,L4/L5,,0,", 'line 2: disc_narrowing is "0": give one of 1, 2, 3, 4'),
        ("anna,one,L4/L5,,,yes", 'line 2: central_canal_stenosis is "yes": give one of 0, 1'),
        ("anna,one,L4/L5,-1,,", 'line 2: pfirrmann is "-1"'),
        ("anna,one,L4/L5,4", "line 2: 4 cells instead of 6"),
    ],
)
def test_a_bad_line_is_named_with_the_remedy(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DataSetError) as caught:
        read(tmp_path, line)
    assert said in str(caught.value)
    assert "anna" not in str(caught.value)  # a message may be written down where patients' names must not


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataSetError) as caught:
        read(tmp_path, "anna,one,L4/L5,9,,", "anna,one,L5/S1,1,,", "anna,one,L9/S1,1,,")
    assert "line 2" in str(caught.value)
    assert "line 3" not in str(caught.value)
    assert "line 4" in str(caught.value)


def test_lines_may_not_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="line 3: the same study and level as line 2"):
        read(tmp_path, "anna,one,L4/L5,4,,", "anna,one,L4/L5,3,,")
    with pytest.raises(DataSetError, match="line 3: the same study as line 2, but another patient"):
        read(tmp_path, "anna,one,L4/L5,4,,", "bo,one,L5/S1,3,,")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("study,level,pfirrmann", "no column patient"),
        ("patient,study,level", "no column with grades"),
        ("patient,study,level,pfirrman", 'column "pfirrman", which is no grade: known are pfirrmann'),
    ],
)
def test_the_header_is_checked_first(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(DataSetError, match=said):
        read(tmp_path, header=header)


def test_a_manifest_without_discs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no discs"):
        read(tmp_path)


def test_another_image_or_another_label_is_another_data_set(tmp_path: Path) -> None:
    digest = read(tmp_path, "anna,one,L4/L5,4,,").digest()
    assert read(tmp_path, "anna,one,L4/L5,4,,").digest() == digest
    assert read(tmp_path, "anna,one,L4/L5,5,,").digest() != digest
    (tmp_path / "one" / "2.dcm").write_bytes(b"more")
    assert read(tmp_path, "anna,one,L4/L5,4,,").digest() != digest
