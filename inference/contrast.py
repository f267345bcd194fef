"""What kind of MR image a header describes, by its physics; by its name only where the physics is missing.

Limits are in ms. They are set between the clusters of clinical spine protocols, not at their edges: over the 172 T2 and
158 T1 series of SPIDER (``series.csv``) T2 has TE 80-124 and TR 1000-5570 (3-D SPACE the lowest TR), T1 has TE 7-14 and
TR 446-746.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from inference.frames import Frame, items, words

T2_SHORTEST_TE_MS = 60.0
T2_LONGEST_TE_MS = 350.0
"""Beyond it only fluid is left, as in MR myelography: discs and marrow are not shown."""
T2_SHORTEST_TR_MS = 900.0
T1_LONGEST_TE_MS = 40.0
T1_LONGEST_TR_MS = 1300.0
STIR_TI_MS = (50.0, 400.0)
"""Inversion times that null fat between 0.2 and 3 T; longer ones make T1 or fluid attenuated images."""
FLUID_NULLING_TI_MS = 1500.0


class Weighting(StrEnum):
    """What the image shows bright."""

    T2 = "T2-weighted"
    T2_FAT_SUPPRESSED = "T2-weighted with fat suppression"
    FLUID_ONLY = "so heavily T2-weighted that only fluid shows"
    STIR = "STIR"
    T1 = "T1-weighted"
    PROTON_DENSITY = "proton-density-weighted"
    FLAIR = "fluid-attenuated"
    GRADIENT_ECHO = "gradient echo"
    ECHO_PLANAR = "echo-planar"
    UNKNOWN = "of unknown weighting"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A weighting, with the values it was read from."""

    weighting: Weighting
    basis: str
    """E.g. "TE 102 ms, TR 4200 ms"; empty where there was no value."""
    by_name: bool
    """True where times were missing and only the series' name tells."""

    def __str__(self) -> str:
        return f"{self.weighting.value} ({self.basis})" if self.basis else self.weighting.value


def contrast_of(frame: Frame) -> Contrast:
    """The contrast of one frame; frames of one echo of one series share it."""
    basis = _times(frame)
    named = " ".join(name(frame))
    sequence = _sequence(frame)
    if "EP" in sequence:
        return Contrast(weighting=Weighting.ECHO_PLANAR, basis=basis, by_name=False)
    if "GR" in sequence and "SE" not in sequence:
        return Contrast(weighting=Weighting.GRADIENT_ECHO, basis=basis, by_name=False)
    if frame.echo_time_ms is None or frame.repetition_time_ms is None:
        return Contrast(weighting=_by_name(named), basis=basis, by_name=True)
    return Contrast(weighting=_by_times(frame, sequence, named), basis=basis, by_name=False)


def is_fat_suppressed(frame: Frame) -> bool:
    """Whether the header says that fat was suppressed (not by inversion), or the name does."""
    return _fat_suppressed(frame, " ".join(name(frame)))


def name(frame: Frame) -> tuple[str, ...]:
    """The words a site gave to the series, upper case, underscores as spaces."""
    keywords = ("SeriesDescription", "ProtocolName")
    return tuple(re.sub(r"[^A-Z0-9]+", " ", " ".join(words(frame.instance, keyword))) for keyword in keywords)


def _by_times(frame: Frame, sequence: frozenset[str], named: str) -> Weighting:
    echo_ms, repetition_ms = frame.echo_time_ms or 0.0, frame.repetition_time_ms or 0.0
    inverted = "IR" in sequence or frame.inversion_time_ms is not None
    if inverted:
        inversion_ms = frame.inversion_time_ms
        if inversion_ms is not None and inversion_ms >= FLUID_NULLING_TI_MS:
            return Weighting.FLAIR
        if inversion_ms is None or STIR_TI_MS[0] <= inversion_ms <= STIR_TI_MS[1]:
            return Weighting.STIR
        if inversion_ms > STIR_TI_MS[1]:
            return Weighting.T1
        # an inversion time of a few ms inverts nothing: some scanners write one for plain spin echo
    if echo_ms > T2_LONGEST_TE_MS:
        return Weighting.FLUID_ONLY
    if echo_ms >= T2_SHORTEST_TE_MS and repetition_ms >= T2_SHORTEST_TR_MS:
        return Weighting.T2_FAT_SUPPRESSED if _fat_suppressed(frame, named) else Weighting.T2
    if echo_ms <= T1_LONGEST_TE_MS and repetition_ms <= T1_LONGEST_TR_MS:
        return Weighting.T1
    if echo_ms < T2_SHORTEST_TE_MS and repetition_ms > T1_LONGEST_TR_MS:
        return Weighting.PROTON_DENSITY
    return Weighting.UNKNOWN


def _by_name(named: str) -> Weighting:
    if re.search(r"\b(STIR|TIRM|TIR)\b", named):
        return Weighting.STIR
    if re.search(r"\b(FLAIR|DARK FLUID)\b", named):
        return Weighting.T1 if re.search(r"\bT1", named) else Weighting.FLAIR
    if re.search(r"\b(GRE|FFE|FLASH|MEDIC|MERGE|T2 ?STAR|DWI|ADC|EPI)\b", named):
        return Weighting.UNKNOWN
    if re.search(r"(?<![A-Z])T1(?![0-9])", named):
        return Weighting.T1
    if re.search(r"(?<![A-Z])T2W?(?![0-9])", named):
        return Weighting.T2_FAT_SUPPRESSED if _FAT_WORDS.search(named) else Weighting.T2
    if re.search(r"\bPD", named):
        return Weighting.PROTON_DENSITY
    return Weighting.UNKNOWN


_FAT_WORDS = re.compile(r"\b(FS|FAT ?SAT|FATSUP|SPAIR|SPIR|FAT SUP\w*|DIXON W|MDIXON W)\b")


def _fat_suppressed(frame: Frame, named: str) -> bool:
    options = {option for text in words(frame.instance, "ScanOptions") for option in text.split()}
    if options & {"FS", "SPIR", "SPAIR", "FATSAT", "WE"} or set(frame.image_type) & {"W", "WATER"}:
        return True
    suppressed = " ".join(words(frame.instance, "SpectrallySelectedSuppression"))
    return suppressed.startswith("FAT") or bool(_FAT_WORDS.search(named))


def _sequence(frame: Frame) -> frozenset[str]:
    """Scanning Sequence terms (PS3.3 C.8.3.1.1.1); for Enhanced MR, their counterparts of C.8.13.4."""
    found = {term for text in words(frame.instance, "ScanningSequence") for term in text.split()}
    if "GRADIENT" in words(frame.instance, "EchoPulseSequence"):
        found.add("GR")
    if "YES" in words(frame.instance, "EchoPlanarPulseSequence"):
        found.add("EP")
    own = items(frame.instance, "PerFrameFunctionalGroupsSequence")[frame.number - 1 : frame.number]
    for groups in (*items(frame.instance, "SharedFunctionalGroupsSequence"), *own):
        for modifier in items(groups, "MRModifierSequence"):
            if "YES" in words(modifier, "InversionRecovery"):
                found.add("IR")
    return frozenset(found)


def _times(frame: Frame) -> str:
    times = (("TE", frame.echo_time_ms), ("TR", frame.repetition_time_ms), ("TI", frame.inversion_time_ms))
    return ", ".join(f"{short} {found:.0f} ms" for short, found in times if found is not None)
