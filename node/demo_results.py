"""Reads the results back as any archive's client would: from the DICOM objects alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
from PIL import Image

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MEASUREMENT_GROUP = "125007"
TRACKING_IDENTIFIER = "112039"
HIDDEN = {"121071", "363698007", "111000"}
"""Finding, finding site and algorithm family are the same in every group: not worth a column."""
DEVICE = {"121013", "121014", "121015", "121016"}
"""Name, manufacturer, model and serial number of the observing device (TID 1004)."""


def grades_table(results: Sequence[pydicom.Dataset]) -> str:
    """One row for each disc: what its measurement group says, as text with aligned columns."""
    rows: list[dict[str, str]] = []
    for report in results:
        if report.SOPClassUID == COMPREHENSIVE_3D_SR:
            rows += [_row(group) for group in _groups(report)]
    if not rows:
        return "(no measurement report)"
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = []
    for name in names:
        cells = [row.get(name, "-") for row in rows]
        lines.append(f"  {name[:44]:<44} " + " ".join(f"{cell[:12]:>12}" for cell in cells))
    return "\n".join(lines)


def write_text_report(results: Sequence[pydicom.Dataset], path: Path) -> None:
    """The words of the Basic Text SR: each section's title, and its text beneath."""
    lines: list[str] = []
    for report in results:
        if report.SOPClassUID == BASIC_TEXT_SR:
            lines += [report.ConceptNameCodeSequence[0].CodeMeaning]
            for item in _items(report):
                if item.ValueType == "CONTAINER":
                    lines += ["", item.ConceptNameCodeSequence[0].CodeMeaning.upper()]
                elif item.ValueType == "TEXT" and _code(item) not in DEVICE:
                    lines += [item.TextValue]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_captures(results: Sequence[pydicom.Dataset], folder: Path) -> None:
    """Each Secondary Capture as a PNG, in the order of the series."""
    folder.mkdir(exist_ok=True)
    captures = [item for item in results if item.SOPClassUID == SECONDARY_CAPTURE]
    for number, capture in enumerate(sorted(captures, key=lambda item: int(item.InstanceNumber)), start=1):
        Image.fromarray(capture.pixel_array).save(folder / f"{number:02d}.png")


def _groups(report: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    return (item for item in _items(report) if _code(item) == MEASUREMENT_GROUP)


def _items(parent: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for item in parent.get("ContentSequence", []):
        yield item
        yield from _items(item)


def _row(group: pydicom.Dataset) -> dict[str, str]:
    row: dict[str, str] = {}
    for item in group.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        if _code(item) == TRACKING_IDENTIFIER:
            row["Disc"] = item.TextValue.removesuffix(" disc")
        elif item.ValueType == "NUM" and "MeasuredValueSequence" in item:
            row[name] = _number(item.MeasuredValueSequence[0])
        elif item.ValueType == "CODE" and _code(item) not in HIDDEN:
            row.setdefault(name, item.ConceptCodeSequence[0].CodeMeaning)  # a grade comes first as a number
    return row


def _number(measured: pydicom.Dataset) -> str:
    unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
    shown = f"{float(measured.NumericValue):g}"
    return shown if unit.startswith("{") else f"{shown} {unit}"


def _code(item: pydicom.Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""
