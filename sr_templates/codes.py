"""Every coded concept that the results use, once, with its origin.

A wrong code in a medical object is worse than a private one. A standard code stands here only where pydicom's
dictionaries of PS3.16 hold it; everything else goes out under this project's own scheme ``99SPINENODE``,
which each object declares in its Coding Scheme Identification Sequence (PS3.3 C.12.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from highdicom.sr import CodedConcept
from pydicom.sr.coding import Code

from inference.anatomy import DiscLevel, Vertebra
from inference.grades import TITLES, Doubt, Finding
from inference.report import Method

SCHEME = "99SPINENODE"
SCHEME_NAME = "spinenode gradings of lumbar intervertebral discs"


def private(value: str, meaning: str) -> Code:
    """A concept of the project's scheme. ``value`` is a Short String (at most 16 characters, PS3.5 6.2)."""
    if len(value) > 16 or len(meaning) > 64:
        raise ValueError(f"code {value!r} ({meaning!r}) is too long for SH and LO")
    return Code(value, SCHEME, meaning)


MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")  # CID 7021
DIAGNOSTIC_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000
PROCEDURE_REPORTED = Code("25056-3", "LN", "MRI unspecified body region")  # CID 100
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")  # TID 1600
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")  # TID 1600
MODALITY = Code("121139", "DCM", "Modality")  # TID 1602
DEVICE = CodedConcept("121007", "DCM", "Device")  # CID 270
ENGLISH = CodedConcept("en-US", "RFC5646", "English (United States)")  # CID 5000
MAGNETIC_RESONANCE = Code("MR", "DCM", "Magnetic Resonance")  # CID 29
SOURCE = Code("260753009", "SCT", "Source")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500
COMMENT = Code("121106", "DCM", "Comment")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")  # as in the CAD templates, TID 4006
PROBABILITY = Code("122157", "DCM", "Probability")
MEASUREMENT_METHOD = Code("370129005", "SCT", "Measurement Method")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
SOURCE_OF_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
FINDINGS = Code("121070", "DCM", "Findings")  # CID 7001
FINDING = Code("121071", "DCM", "Finding")  # CID 7002
IMPRESSIONS = Code("121072", "DCM", "Impressions")  # CID 7001
IMPRESSION = Code("121073", "DCM", "Impression")  # CID 7002

PRESENT = Code("52101004", "SCT", "Present")  # CID 240
ABSENT = Code("272519000", "SCT", "Absent")  # CID 240

HEADING: Mapping[str, Code] = {
    "title": private("H-TITLE", "Lumbar disc grading"),
    "reading": private("H-READING", "How to read this"),
    "doubt": private("H-DOUBT", "Reasons to doubt"),
    "not_used": private("H-NOT-USED", "Series not used"),
    "header": private("H-HEADER", "Source header"),
    "made_by": private("H-MADE-BY", "Made by"),
}
"""Headings of the text report for which CID 7001 has none, by their key in ``languages/en.toml``."""

GRADED_DISC = private("GRADED-DISC", "Graded intervertebral disc")
NOT_ASSESSED = private("NOT-ASSESSED", "Not assessed")
IMAGE_QUALITY = Code("111101", "DCM", "Image Quality")  # CID 6014
LEVEL_NAMING = private("LEVEL-NAMING", "Naming of the disc levels")
FLAGGED = private("FLAGGED", "Reasons to doubt noted, see comments")
NOT_FLAGGED = private("NOT-FLAGGED", "No reason to doubt noted")
DERIVED_MEASUREMENTS = Code("126011", "DCM", "Derived Imaging Measurements")  # TID 1500
PUBLISHED_CRITERION = private("CRITERION", "Published criterion applied to a measurement")
RELIABILITY = private("RELIABILITY", "Reliability of the grading")
DOUBT: Mapping[Doubt, Code] = {
    Doubt.UNSURE: private("UNCERTAIN", "Uncertain"),
    Doubt.AT_ODDS: private("AT-ODDS", "Uncertain: image and measurements disagree"),
}
MODIC_TYPE = private("MODIC-TYPE", "Modic type of the marrow change")
SLICES_USED = private("SLICES-USED", "Slices that the learned gradings go by")
LEVEL_CERTAINTY = private("LEVEL-CERTAINTY", "Certainty of the disc level")

PERCENT = Code("%", "UCUM", "Percent")
MILLIMETRE = Code("mm", "UCUM", "mm")
DEGREE = Code("deg", "UCUM", "deg")
RATIO = Code("{ratio}", "UCUM", "ratio")
ZERO_TO_ONE = Code("{0:1}", "UCUM", "range: 0:1")
ZERO_TO_FIVE = Code("{0:5}", "UCUM", "range: 0:5")
ONE_TO_FIVE = Code("{1:5}", "UCUM", "range: 1:5")
"""A range as unit, because viewers print the unit's code behind the number: "4 1" would be misread."""

DISC: Mapping[DiscLevel, Code] = {
    DiscLevel.T9_T10: Code("113209001", "SCT", "T9/T10 disc"),
    DiscLevel.T10_T11: Code("34959001", "SCT", "T10/T11 disc"),
    DiscLevel.T11_T12: Code("1537001", "SCT", "T11/T12 disc"),
    DiscLevel.T12_L1: Code("76206002", "SCT", "T12/L1 disc"),
    DiscLevel.L1_L2: Code("80064006", "SCT", "L1/L2 disc"),
    DiscLevel.L2_L3: Code("67459009", "SCT", "L2/L3 disc"),
    DiscLevel.L3_L4: Code("62551000", "SCT", "L3/L4 disc"),
    DiscLevel.L4_L5: Code("84020006", "SCT", "L4/L5 disc"),
    DiscLevel.L5_S1: Code("715056000", "SCT", "L5/S1 disc"),
}
"""CID 7604. The concepts named "Level of L4/L5 intervertebral disc" (CID 1003) are planes, not discs."""

DISC_WITHOUT_LEVEL = private("DISC-NO-LEVEL", "Intervertebral disc, level withheld")
VERTEBRA_WITHOUT_LEVEL = private("VERTEBRA-NO-LVL", "Vertebra, level withheld")
"""Where the name of a level would be a guess. CID 7604 and 7603 name levels only."""

VERTEBRA: Mapping[Vertebra, Code] = {
    Vertebra.T9: Code("82687006", "SCT", "T9 vertebra"),
    Vertebra.T10: Code("7610001", "SCT", "T10 vertebra"),
    Vertebra.T11: Code("12989004", "SCT", "T11 vertebra"),
    Vertebra.T12: Code("23215003", "SCT", "T12 vertebra"),
    Vertebra.L1: Code("66794005", "SCT", "L1 vertebra"),
    Vertebra.L2: Code("14293000", "SCT", "L2 vertebra"),
    Vertebra.L3: Code("36470004", "SCT", "L3 vertebra"),
    Vertebra.L4: Code("11994002", "SCT", "L4 vertebra"),
    Vertebra.L5: Code("49668003", "SCT", "L5 vertebra"),
    Vertebra.S1: private("S1-VERTEBRA", "S1 vertebra"),
}
"""CID 7603, which names no sacral vertebra."""

SPINAL_CANAL = Code("61853006", "SCT", "Spinal canal structure (body structure)")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")  # CID 7150
OF_INTEREST = Code("113000", "DCM", "Of Interest")  # CID 7010
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")  # TID 2010
SUMMARY_DOCUMENT = private("SUMMARY", "Lumbar disc grading summary")

EVIDENCE_METHOD: Mapping[Method, Code] = {
    Method.GRADIENT_SALIENCY: Code("130404", "DCM", "Saliency"),  # CID 217
    Method.GUIDED_BACKPROPAGATION: private("GUIDED-BP", "Guided back-propagation"),
    Method.EXCITATION_BACKPROPAGATION: private("EXCITATION-BP", "Excitation back-propagation"),
    Method.CONTRASTIVE_EXCITATION: private("CONTRASTIVE-EBP", "Contrastive excitation back-propagation"),
    Method.GRADIENT_IN_EXCITATION: private("GRAD-IN-EBP", "Gradient within contrastive excitation"),
}
"""How a map of evidence was made. CID 217 has gradient saliency and class activation only."""

FINDING_NAME: Mapping[Finding, Code] = {
    finding: private(value, TITLES[finding])
    for finding, value in {
        Finding.PFIRRMANN: "PFIRRMANN",
        Finding.DISC_NARROWING: "NARROWING",
        Finding.UPPER_ENDPLATE_DEFECT: "ENDPLATE-UPPER",
        Finding.LOWER_ENDPLATE_DEFECT: "ENDPLATE-LOWER",
        Finding.UPPER_MARROW_CHANGE: "MARROW-UPPER",
        Finding.LOWER_MARROW_CHANGE: "MARROW-LOWER",
        Finding.SPONDYLOLISTHESIS: "LISTHESIS",
        Finding.CENTRAL_CANAL_STENOSIS: "CANAL-STENOSIS",
        Finding.DISC_HERNIATION: "HERNIATION",
        Finding.DISC_BULGING: "BULGING",
    }.items()
}


NARROWING_STEP: Mapping[int, str] = {1: "No", 2: "Mild", 3: "Moderate", 4: "Severe"}


def grade_value(finding: Finding, value: int) -> Code:
    """The coded answer of a qualitative evaluation: a Pfirrmann grade, a step of narrowing, or present/absent."""
    if finding is Finding.PFIRRMANN:
        return private(f"PFIRRMANN-{value}", f"Pfirrmann grade {value}")
    if finding is Finding.DISC_NARROWING:
        return private(f"NARROWING-{value}", f"{NARROWING_STEP[value]} disc narrowing (grade {value} of 4)")
    return PRESENT if value else ABSENT


def modic_type(value: int) -> Code:
    """Modic type 1, 2 or 3 of a marrow change."""
    return private(f"MODIC-{value}", f"Modic type {value}")


def class_probability(finding: Finding, value: int) -> Code:
    """Name of the probability of one class of a finding with more than two classes."""
    return private(f"P-{finding.name}-{value}"[:16], f"Probability of {TITLES[finding]} {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """How a measurement of ``DiscGrading.measurements`` is named and where it stands in a Measurement Group.

    Viewers show the first five numbers and the finding site of a group: more than four numbers at its head
    (Pfirrmann, height, canal, slip) would push the disc's level out of sight. So a measurement that another one
    is made from hangs beneath that one (INFERRED FROM, TID 300), and one that backs a finding hangs beneath it.
    """

    name: Code
    unit: Code
    title: str
    decimals: int
    source_of: str | None
    """The measurement that this one is part of."""
    property_of: Finding | None
    """The finding that this one backs."""
    method: Code | None
    """How it is measured (``inference.measurements`` says more); None where nobody told."""


METHODS: Mapping[str, Code] = {
    of: private(value, meaning)
    for of, value, meaning in (
        ("DISC-HEIGHT", "M-3-HEIGHTS", "Mean of anterior, middle, posterior height (Spahn 2024)"),
        ("HEIGHT-ANTERIOR", "M-HEIGHT-20", "Height at 20 % of the disc's mid-line from the front"),
        ("HEIGHT-MIDDLE", "M-HEIGHT-50", "Height at the middle of the disc's mid-line"),
        ("HEIGHT-POSTERIOR", "M-HEIGHT-80", "Height at 80 % of the disc's mid-line from the front"),
        ("DISC-DEPTH", "M-MID-LINE", "Length of the disc's mid-line"),
        ("HEIGHT-INDEX", "M-FARFAN", "Mean disc height over disc depth (Farfan 1972)"),
        ("HEIGHT-LOSS", "M-HEIGHT-LOSS", "Height index against level's usual (Griffith 2007 steps)"),
        ("CSF-EFFACEMENT", "M-CSF-SHARE", "CSF share of the sac, against mid-vertebral (Schizas 2010)"),
        ("CANAL-AP", "M-THECAL-SAC", "Thecal sac on the prolonged disc mid-line (Chatha 2011)"),
        ("SLIP", "M-CORNERS", "Offset of posterior corners along the lower end plate"),
        ("SLIP-PERCENT", "M-TAILLARD", "Slip over the lower end plate's depth (Taillard 1954)"),
        ("MEYERDING", "M-MEYERDING", "Slip in quarters of the lower end plate (Meyerding 1932)"),
        ("SEGMENT-LORDOSIS", "M-UPPER-PLATES", "Angle between upper end plates of adjacent bodies"),
        ("DISC-CSF", "M-DISC-SIGNAL", "Median of inner disc over thecal sac signal (Salamat 2016)"),
        ("UPPER-BODY-CSF", "M-BODY-SIGNAL", "Median of inner vertebral body over thecal sac signal"),
        ("LOWER-BODY-CSF", "M-BODY-SIGNAL", "Median of inner vertebral body over thecal sac signal"),
        ("LUMBAR-LORDOSIS", "M-L1-S1-PLATES", "Angle between upper end plates of L1 and S1, supine"),
    )
}
"""How each quantity is measured, by its code value. DICOM has codes for none of these methods."""


def _quantity(  # noqa: PLR0913, PLR0917 - one row of the table below
    value: str,
    title: str,
    unit: Code,
    decimals: int = 1,
    source_of: str | None = None,
    property_of: Finding | None = None,
) -> Quantity:
    return Quantity(
        name=private(value, title),
        unit=unit,
        title=title,
        decimals=decimals,
        source_of=source_of,
        property_of=property_of,
        method=METHODS.get(value),
    )


QUANTITIES: Mapping[str, Quantity] = {
    "disc_height_mm": _quantity("DISC-HEIGHT", "Disc height", MILLIMETRE),
    "disc_height_anterior_mm": _quantity("HEIGHT-ANTERIOR", "Anterior disc height", MILLIMETRE, 1, "disc_height_mm"),
    "disc_height_middle_mm": _quantity("HEIGHT-MIDDLE", "Middle disc height", MILLIMETRE, 1, "disc_height_mm"),
    "disc_height_posterior_mm": _quantity("HEIGHT-POSTERIOR", "Posterior disc height", MILLIMETRE, 1, "disc_height_mm"),
    "disc_depth_mm": _quantity("DISC-DEPTH", "Disc depth", MILLIMETRE, 1, None, Finding.DISC_NARROWING),
    "disc_height_index": _quantity("HEIGHT-INDEX", "Disc height index", RATIO, 2, None, Finding.DISC_NARROWING),
    "disc_height_loss_percent": _quantity(
        "HEIGHT-LOSS", "Loss of disc height index", PERCENT, 0, None, Finding.DISC_NARROWING
    ),
    "csf_effacement_percent": _quantity(
        "CSF-EFFACEMENT", "Effacement of cerebrospinal fluid", PERCENT, 0, None, Finding.CENTRAL_CANAL_STENOSIS
    ),
    "canal_ap_mm": _quantity("CANAL-AP", "Canal AP diameter", MILLIMETRE),
    "slip_mm": _quantity("SLIP", "Vertebral slip", MILLIMETRE),
    "slip_percent": _quantity(
        "SLIP-PERCENT", "Vertebral slip relative to endplate", PERCENT, 1, None, Finding.SPONDYLOLISTHESIS
    ),
    "meyerding_grade": _quantity("MEYERDING", "Meyerding grade", ZERO_TO_FIVE, 0, None, Finding.SPONDYLOLISTHESIS),
    "segmental_lordosis_deg": _quantity(
        "SEGMENT-LORDOSIS", "Segmental lordosis, upper end plates", DEGREE, 1, None, Finding.SPONDYLOLISTHESIS
    ),
    "disc_to_csf_signal_ratio": _quantity("DISC-CSF", "Disc signal relative to CSF", RATIO, 2, None, Finding.PFIRRMANN),
    "upper_vertebra_to_csf_signal_ratio": _quantity(
        "UPPER-BODY-CSF", "Signal of the body above relative to CSF", RATIO, 2, None, Finding.UPPER_MARROW_CHANGE
    ),
    "lower_vertebra_to_csf_signal_ratio": _quantity(
        "LOWER-BODY-CSF", "Signal of the body below relative to CSF", RATIO, 2, None, Finding.LOWER_MARROW_CHANGE
    ),
}


OF_WHOLE_SPINE: Mapping[str, Quantity] = {
    "lumbar_lordosis_deg": _quantity("LUMBAR-LORDOSIS", "Lumbar lordosis, L1 to S1, lying", DEGREE),
}
"""Told beside the groups of the discs: OHIF 3 cannot open an SR with a Measurement Group that lies on no image."""


def quantity(name: str) -> Quantity:
    """What is known of a measurement; an unlisted one is named by its own key and stands at the head of the group.

    The unit is in the name: ``_mm``, ``_percent``, anything else is a ratio.
    """
    if name in QUANTITIES or name in OF_WHOLE_SPINE:
        return QUANTITIES.get(name) or OF_WHOLE_SPINE[name]
    unit = MILLIMETRE if name.endswith("_mm") else PERCENT if name.endswith("_percent") else RATIO
    stem = name.removesuffix("_mm").removesuffix("_percent")
    title = stem.replace("_", " ").capitalize()
    value = f"M-{stem.upper().replace('_', '-')}"
    return _quantity(value[:16], title[:64], unit, 2)
