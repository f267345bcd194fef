"""Bodies of STOW-RS requests: each part is found, or the body is refused where it stops being one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.stow_body import Malformed, parts

HEAD = b"--BB\r\nContent-Type: application/dicom\r\n\r\n"
END = b"--BB--"


def part(content: bytes) -> bytes:
    return HEAD + content + b"\r\n"


def contents(body: bytes) -> list[bytes]:
    return [body[begin:end] for begin, end in parts(body, b"BB")]


@given(st.lists(st.binary(max_size=60).filter(lambda content: b"\n--BB" not in b"\n" + content), max_size=4))
def test_every_part_of_a_whole_body_is_found(sent: list[bytes]) -> None:
    assert contents(b"".join(map(part, sent)) + END) == sent


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + part(b"one") + END + b"\r\nepilogue",
        b"--BB \t\r\n\r\none\r\n--BB-- \r\n",
        b"--BB\r\n\r\none\r\n--BB--\n",
        b"mentions --BB\r\n" + part(b"one") + END,
    ],
    ids=["preamble and epilogue", "padding", "LF in the end", "boundary inside a line"],
)
def test_what_rfc_2046_allows_around_parts_is_allowed(body: bytes) -> None:
    assert contents(body) == [b"one"]


@pytest.mark.parametrize(
    ("body", "before", "complaint"),
    [
        (part(b"one") + HEAD + b"tw", [b"one"], "ends before its closing boundary"),
        (part(b"one") + part(b"two"), [b"one"], "ends before its closing boundary"),
        (part(b"one") + b"--BB", [], "not alone on its line"),
        (part(b"one") + b"--BB\nA: b\n\ntwo\r\n" + END, [], "not alone on its line"),
        (part(b"one") + b"--BB\r\nA: b\n\ntwo\r\n" + END, [b"one"], "end of its header"),
        (part(b"one") + b"--BB\r\nA: " + b"b" * 9000 + b"\r\n\r\ntwo\r\n" + END, [b"one"], "end of its header"),
        (HEAD + b"one\n" + part(b"two") + END, [], "does not begin after CRLF"),
        (part(b"one\r\n--BBQ") + END, [], "not alone on its line"),
        (part(b"one\r\n--BB--Q") + END, [], "not alone on its line"),
        (b"one", [], "does not hold its boundary"),
        (b"", [], "does not hold its boundary"),
    ],
)
def test_a_body_that_is_none_is_refused_where_it_goes_wrong(body: bytes, before: list[bytes], complaint: str) -> None:
    found = parts(body, b"BB")
    assert [body[begin:end] for begin, end in itertools.islice(found, len(before))] == before
    with pytest.raises(Malformed, match=complaint):
        next(found)
