"""What Image Type tells: acquired or made from others, and which part of the signal (PS3.3 C.7.6.1.1.2)."""

from __future__ import annotations

from inference.frames import Frame, words

COMPONENTS = {
    "P": "phase",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "R": "real",
    "REAL": "real",
    "I": "imaginary",
    "IMAGINARY": "imaginary",
    "W": "water",
    "WATER": "water",
    "F": "fat",
    "FAT": "fat",
    "IP": "in-phase",
    "IN_PHASE": "in-phase",
    "OP": "opposed-phase",
    "OPP_PHASE": "opposed-phase",
    "OUT_PHASE": "opposed-phase",
    "FF": "fat fraction",
    "FAT_FRACTION": "fat fraction",
    "WF": "water fraction",
}
"""Terms of Image Type after its second value, by several vendors, and what they mean. No term: magnitude."""

USABLE_COMPONENTS = {"magnitude", "in-phase", "water"}

LOCALIZER_TERMS = {"LOCALIZER", "SCOUT"}
PROJECTION_TERMS = {"MIP", "MINIP", "MIN IP", "MAX_IP", "MIN_IP", "MAXIMUM_IP", "PROJECTION IMAGE", "PROJECTION"}
SUBTRACTION_TERMS = {"SUB", "SUBTRACT", "SUBTRACTION"}
MAP_TERMS = {
    "ADC",
    "FA",
    "TRACEW",
    "T1_MAP",
    "T2_MAP",
    "T2 MAP",
    "T2_STAR_MAP",
    "R2_STAR",
    "PARAMETRIC MAP",
    "PERFUSION",
}
SCREEN_TERMS = {"SCREEN SAVE", "POSDISP", "CSA REPORT", "CSA BLACK IMAGE"}


def component_of(frame: Frame) -> str:
    """The part of the signal that the frame shows; "magnitude" where Image Type names no other."""
    return next((COMPONENTS[term] for term in frame.image_type[2:] if term in COMPONENTS), "magnitude")


def derived(frame: Frame) -> bool:
    """Whether the image was made from others. Lossy compression alone also says DERIVED, and makes no new image."""
    return frame.image_type[:1] == ("DERIVED",) and words(frame.instance, "LossyImageCompression") != ("01",)


def why_not_an_original(frame: Frame) -> str | None:
    """The reason not to grade the image; None for what a scanner acquired.

    DERIVED with PRIMARY passes: scanners write it for distortion correction, composing and denoising. It ranks last.
    """
    terms = set(frame.image_type)
    for found, reason in (
        (LOCALIZER_TERMS, "localizer"),
        (PROJECTION_TERMS, "intensity projection"),
        (SUBTRACTION_TERMS, "subtraction image"),
        (MAP_TERMS, "parametric map"),
        (SCREEN_TERMS, "screen capture"),
    ):
        if terms & found:
            return reason
    if frame.image_type[1:2] == ("SECONDARY",):
        return "made from other images (image type SECONDARY)"
    component = component_of(frame)
    return None if component in USABLE_COMPONENTS else f"{component} image"
