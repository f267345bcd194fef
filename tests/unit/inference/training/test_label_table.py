"""CSV as people save it is read; what cannot be read is named with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.training.graded_series import DataSetError
from inference.training.label_table import MOST_NAMED, read_table, refuse


def write(folder: Path, content: bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"a;b\n1;2\n",  # as spreadsheets save it where the comma is a decimal sign
        b"\xef\xbb\xbfa,b\r\n1,2\r\n",
        b"a,b\n\n 1 , 2\n,\n",
    ],
)
def test_commas_semicolons_marks_and_empty_lines_are_all_the_same_table(tmp_path: Path, content: bytes) -> None:
    table = read_table(write(tmp_path, content), ("a",))
    assert table.columns == ("a", "b")
    assert [row.cells for row in table.rows] == [{"a": "1", "b": "2"}]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b'a,b\n\n1,"two\nlines"\n3,4\n'), ())
    assert [row.line for row in table.rows] == [4, 5]  # a cell over two lines is named by its last


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"a\n1\n", "no column b"),
        (b"a,b,b\n1,2,3\n", "column b twice"),
        (b"a,b\n1,2\n1\n", "line 3: 1 cells instead of 2"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells instead of 2"),
        (b'a,b\n1,"2\n', "quotation marks"),
        (b"a,b\n\xff,2\n", "UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-8"),
        (b"a,b\n1,\x00\n", "zero bytes"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_remedy(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataSetError, match=said):
        read_table(write(tmp_path, content), ("a", "b"))


def test_a_missing_table_asks_for_another_layout(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"labels\.csv is missing .* another --layout"):
        read_table(tmp_path / "labels.csv", ())


def test_many_faults_are_counted_and_the_first_named() -> None:
    faults = [f"line {number}: wrong" for number in range(2, MOST_NAMED + 5)]
    with pytest.raises(DataSetError) as caught:
        refuse("labels.csv", faults)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  line 2: wrong"
    assert lines[-1] == "  and 3 more"
    refuse("labels.csv", [])
