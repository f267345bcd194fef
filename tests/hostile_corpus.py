"""Objects and PDUs that an attacker, or a broken sender, sends: a corpus that is the same each time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.unit.node.encoded_images import encoded, mr_image

PRIVATE = "1.2.3.4.5"
STORED, REFUSED, EITHER = "stored", "refused", "either"
_HEADER_BYTES = 260
"""Of an image of this corpus: everything up to its Series Instance UID, and a little more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A data set, the transfer syntax that it claims, and what has to become of it."""

    name: str
    content: bytes
    becomes: str
    transfer_syntax_uid: str = ExplicitVRLittleEndian
    uid: str = "1.2.3.1.1"


def objects() -> Iterator[Sent]:
    yield from _deflated()
    yield from _lengths()
    yield from _nests()
    yield from _identifiers()
    yield from _bytes_changed()


def _deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def _deflated() -> Iterator[Sent]:
    def sent(name: str, content: bytes, becomes: str, uid: str = "1.2.3.1.1") -> Sent:
        return Sent(
            name=name,
            content=content,
            becomes=becomes,
            uid=uid,
            transfer_syntax_uid=DeflatedExplicitVRLittleEndian,
        )

    image = encoded(mr_image(9001))
    yield sent("legal deflated", _deflate(image), STORED, "1.2.3.1.9001")
    # a legal object, too: what it inflates to is the business of whoever reads its pixels
    bomb = encoded(mr_image(9002)) + struct.pack("<HH2sHL", 0x7FE1, 0x1010, b"OB", 0, 2**27) + bytes(2**27)
    yield sent("128 MB in 128 kB behind a good header", _deflate(bomb), STORED, "1.2.3.1.9002")
    hidden = struct.pack("<HH2sHL", 8, 1, b"OB", 0, 2**27) + bytes(2**27) + image
    yield sent("header behind 128 MB in 128 kB", _deflate(hidden), REFUSED)
    yield sent("deflated, cut off", _deflate(image)[:40], REFUSED)
    yield sent("not deflated at all", b"\xff" * 400, REFUSED)
    yield sent("deflated nothing", _deflate(b""), REFUSED)


def _lengths() -> Iterator[Sent]:
    image = encoded(mr_image(1))
    for length in (2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1):
        bomb = struct.pack("<HH2sHL", 8, 1, b"OB", 0, length)
        yield Sent(name=f"an element of {length} bytes first", content=bomb + image, becomes=REFUSED)
        implicit = struct.pack("<HHL", 8, 1, length)
        yield Sent(
            name=f"an implicit element of {length} bytes first",
            content=implicit + image,
            becomes=REFUSED,
            transfer_syntax_uid=ImplicitVRLittleEndian,
        )
    yield Sent(
        name="200 000 empty elements first", content=struct.pack("<HH2sH", 7, 1, b"LO", 0) * 200_001, becomes=REFUSED
    )
    private = encoded(mr_image(9003))
    yield Sent(
        name="a private transfer syntax",
        content=private,
        becomes=STORED,
        transfer_syntax_uid=PRIVATE,
        uid="1.2.3.1.9003",
    )


def _nests() -> Iterator[Sent]:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sequence = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    unknown = struct.pack("<HH2sHL", 9, 0x1001, b"UN", 0, 0xFFFFFFFF)
    yield Sent(name="a tower of sequences", content=(sequence + item) * 20_000, becomes=REFUSED)
    yield Sent(name="a tower of unknowns", content=unknown + item * 20_000, becomes=REFUSED)
    yield Sent(name="a sequence without end", content=sequence + item, becomes=REFUSED)
    yield Sent(name="ends without beginnings", content=struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) * 1000, becomes=REFUSED)


def _identifiers() -> Iterator[Sent]:
    image = encoded(mr_image(1))
    harmful = (b"../../../../etc/cron.d/x", b"/etc/passwd", b"1.2\0.3", b"1" * 65, b"", b"1.2.\xe9", b"1.2\n3", b"%n%s")
    for name, group, number, value in (
        ("SOP Instance UID", 8, 0x18, b"1.2.3.1.1"),
        ("Study Instance UID", 0x20, 0x0D, b"1.2.3"),
        ("Series Instance UID", 0x20, 0x0E, b"1.2.3.1"),
    ):
        good = _uid(group, number, value)
        assert image.count(good) == 1
        for bad in harmful:
            yield Sent(name=f"{name} {bad!r}", content=image.replace(good, _uid(group, number, bad)), becomes=REFUSED)


def _uid(group: int, number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, b"UI", len(value)) + value


def _bytes_changed() -> Iterator[Sent]:
    """Each byte of the header made another, one at a time."""
    image = encoded(mr_image(1))
    for place in range(min(_HEADER_BYTES, len(image))):
        for byte in {0, 0xFF, image[place] ^ 0x80} - {image[place]}:
            changed = image[:place] + bytes([byte]) + image[place + 1 :]
            yield Sent(name=f"byte {place} is {byte}", content=changed, becomes=EITHER)


def requests(good: bytes) -> Iterator[bytes]:
    """An A-ASSOCIATE-RQ with each byte made another, one at a time, and cut off at some places."""
    for place in range(len(good)):
        for byte in {0, 0xFF} - {good[place]}:
            yield good[:place] + bytes([byte]) + good[place + 1 :]
    for end in range(0, len(good), 17):
        yield good[:end]
