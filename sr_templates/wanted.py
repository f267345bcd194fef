"""Which objects are made of a report, and in which of the forms that DICOM has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from sr_templates.provenance import OutputKind


class SrClass(StrEnum):
    """SOP classes of the measurement report; the content is the same in each."""

    COMPREHENSIVE_3D = "comprehensive_3d"
    """What IHE AIR asks for."""
    COMPREHENSIVE = "comprehensive"
    ENHANCED = "enhanced"


SR_SOP_CLASS: Mapping[SrClass, UID] = {
    SrClass.COMPREHENSIVE_3D: Comprehensive3DSRStorage,
    SrClass.COMPREHENSIVE: ComprehensiveSRStorage,
    SrClass.ENHANCED: EnhancedSRStorage,
}


class CaptureForm(StrEnum):
    """Forms of the captures."""

    SINGLE_FRAME = "single_frame"
    """A Secondary Capture Image for each page: every viewer shows it."""
    MULTI_FRAME = "multi_frame"
    """One Multi-frame True Color Secondary Capture Image of all pages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to make. Several classes or forms of one kind are alternatives: an archive is sent one of them."""

    kinds: frozenset[OutputKind] = frozenset(
        {OutputKind.MEASUREMENT_REPORT, OutputKind.TEXT_REPORT, OutputKind.SECONDARY_CAPTURE}
    )
    sr_classes: tuple[SrClass, ...] = (SrClass.COMPREHENSIVE_3D,)
    capture_forms: tuple[CaptureForm, ...] = (CaptureForm.SINGLE_FRAME,)
    capture_geometry: bool = False
    """Single-frame captures of slices say where in the patient they lie (a Standard Extended SOP Class)."""
    language: str = "en"
    """Of text report, captures, presentation state and PDF; one of ``phrases.languages()``."""
