"""The lists of docs/conformance.md, made from the code: ``python -m tests.conformance_lists`` writes them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node import admission, intake, retry, transport_security
from node.echo import RESULT_CLASSES
from node.settings import ReceiverSettings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"
STATUSES = {
    intake.SUCCESS: ("Success", "File and directory are fsynced and the ledger's row is committed."),
    intake.OUT_OF_RESOURCES: ("Refused: Out of Resources", "Disk full, below its watermark or failing; ledger away."),
    intake.DATA_SET_DOES_NOT_MATCH: (
        "Error: Data Set does not match SOP Class",
        "UIDs of command and data set differ or are not valid, or Study or Series Instance UID is missing.",
    ),
    intake.CANNOT_UNDERSTAND: ("Error: Cannot understand", "Not a data set of the transfer syntax negotiated."),
}


def result_classes() -> str:
    syntaxes = ", ".join(f"{uid.name} ({uid})" for uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
    rows = [f"| {item.name} | {item} | {syntaxes} | SCU |" for item in RESULT_CLASSES]
    return "\n".join(["| SOP class | UID | transfer syntaxes | role |", "|---|---|---|---|", *rows])


def store_statuses() -> str:
    rows = [f"| 0x{code:04X} | {name} | {when} |" for code, (name, when) in STATUSES.items()]
    return "\n".join(["| status | meaning | when |", "|---|---|---|", *rows])


def rejections() -> str:
    settings = ReceiverSettings(allowed_calling_ae_titles=("A",))
    good = {"calling_ae_title": "A", "called_ae_title": settings.ae_title, "open_associations": 0}
    good |= {"open_of_this_address": 0, "open_of_this_title": 0, "has_room": True}
    breaches = [
        {"called_ae_title": "?"},
        {"calling_ae_title": "?"},
        {"open_associations": settings.maximum_associations},
        {"open_of_this_address": settings.maximum_associations_per_address},
        {"open_of_this_title": settings.maximum_associations_per_calling_ae_title},
        {"has_room": False},
    ]
    rows = []
    for breach in breaches:
        refused = admission.refusal(admission.Request(**(good | breach)), settings)  # type: ignore[arg-type]
        assert refused is not None
        result = {1: "rejected-permanent", 2: "rejected-transient"}[refused.result]
        rows.append(f"| {result} ({refused.result}) | {refused.source} | {refused.diagnostic} | {refused.kind} |")
    return "\n".join(["| result | source | reason | when |", "|---|---|---|---|", *rows])


def settings_of_the_receiver() -> str:
    rows = [
        f"| receiver.{name} | {'' if field.default in (None, ()) else field.default} |"
        for name, field in ReceiverSettings.model_fields.items()
    ]
    return "\n".join(["| setting | default |", "|---|---|", *rows])


def tls() -> str:
    version = transport_security.MINIMUM_VERSION.name.replace("TLSv1_", "TLS 1.")
    return f"Lowest version: {version}. Ciphers of TLS 1.2, in OpenSSL's words: `{transport_security.CIPHERS}`."


def answers_of_archives() -> str:
    rows = []
    for status in (0x0000, 0xB000, 0x0122, 0x0124, 0x0110, 0xA700, 0xA900, 0xC000):
        verdict, text = retry.judge(status)
        rows.append(f"| {text} | {verdict.name.lower()} |")
    return "\n".join(["| an archive answers | the object is |", "|---|---|", *rows])


LISTS: dict[str, Callable[[], str]] = {
    "result classes": result_classes,
    "store statuses": store_statuses,
    "rejections": rejections,
    "receiver settings": settings_of_the_receiver,
    "tls": tls,
    "answers of archives": answers_of_archives,
}


def with_lists(document: str) -> str:
    """The document with each list between its marks made anew."""
    for name, make in LISTS.items():
        begin = f"<!-- list: {name} -->\n"
        before, found, rest = document.partition(begin)
        assert found, f"no place for the list {name!r}"
        document = before + begin + make() + "\n" + rest[rest.index("<!-- end -->") :]
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(with_lists(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
