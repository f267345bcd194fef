"""Body parts that a header names, in the words that sites use. Only a veto or a tie-break: names are often wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inference.frames import Frame, items, words

FOREIGN: dict[str, str] = {
    "brain": r"BRAIN|CEREBR\w*|HIRN|GEHIRN|CEREBRO|CERVEAU|ENCEPHAL\w*|HERSENEN",
    "head": r"HEAD|SKULL|KOPF|SCHAEDEL|CRANE|CRANI\w*|TESTA|CABEZA|HOOFD|ORBIT\w*|IAC|PITUITAR\w*|SELLA|FACE",
    "neck": r"NECK|HALS|CERVICAL\w*|C ?SPINE|CSP|HWS|CWK|NUQUE|CUELLO|NEKWERVELS|RACHIS CERV\w*",
    "knee": r"KNEE|KNIE|GENOU|RODILLA|GINOCCHIO",
    "hip": r"HIP|HUEFTE|HANCHE|CADERA|HEUP",
    "shoulder": r"SHOULDER|SCHULTER|EPAULE|HOMBRO|SPALLA|SCHOUDER",
    "ankle or foot": r"ANKLE|FOOT|FUSS|SPRUNGGELENK|CHEVILLE|PIED|TOBILLO|ENKEL|VOET|CALCANEUS",
    "wrist or hand": r"WRIST|HAND|HANDGELENK|POIGNET|MUNECA|POLS",
    "elbow": r"ELBOW|ELLENBOGEN|COUDE|CODO|ELLEBOOG",
    "thigh or leg": r"THIGH|FEMUR|LEG|TIBIA|CALF|OBERSCHENKEL|UNTERSCHENKEL",
    "heart": r"HEART|CARDIAC|HERZ|COEUR|CORAZON|CUORE|HART",
    "breast": r"BREAST|MAMMA|SEIN|MAMA",
    "pelvis": r"PELVIS|PELVIC|BECKEN|PROSTATE?|UTERUS|RECTUM|REKTUM|BLADDER|CERVIX|OVAR\w*|BASSIN|FETUS|FETAL",
}
"""Body part -> words for it, as whole words (PS3.16 Annex L gives the defined terms of Body Part Examined)."""

LUMBAR = re.compile(
    r"\b(LUMB\w*|L ?SPINE|LS ?SPINE|LSSPINE|LSP|LWS|LWK|LENDEN\w*|LOMB\w*|LENDENWIRBEL\w*|LUMBOSACRAL|TL ?SPINE)\b"
)
THORACIC = re.compile(r"\b(THORA\w*|T ?SPINE|TSP|BWS|DORSAL\w*|DORSO\w*|TWK|BORSTWERVEL\w*)\b")
_FOREIGN = {part: re.compile(rf"\b({pattern})\b") for part, pattern in FOREIGN.items()}


def foreign_body_part(frame: Frame) -> str | None:
    """Another body part that the header names; None where it names none, or names the lumbar spine as well.

    The description of the study counts only where the series itself names nothing.
    """
    series = _of_series(frame)
    for text in (series, _plain(words(frame.instance, "StudyDescription"))):
        if LUMBAR.search(text):
            return None
        found = next((part for part, pattern in _FOREIGN.items() if pattern.search(text)), None)
        if found is not None:
            return found
        if THORACIC.search(text):
            return None
    return None


def disagrees(frame: Frame) -> bool:
    """Whether the series names the lumbar spine and another body part."""
    text = _of_series(frame)
    return bool(LUMBAR.search(text)) and any(pattern.search(text) for pattern in _FOREIGN.values())


def names_lumbar(frame: Frame) -> bool:
    """Whether the series names the lumbar spine."""
    return bool(LUMBAR.search(_of_series(frame)))


def names_thoracic(frame: Frame) -> bool:
    """Whether it names the thoracic spine only. Lumbar studies are often tagged so: never a veto for a lone series."""
    text = _of_series(frame)
    return bool(THORACIC.search(text)) and not LUMBAR.search(text)


def _of_series(frame: Frame) -> str:
    texts = [
        text
        for keyword in ("BodyPartExamined", "SeriesDescription", "ProtocolName")
        for text in words(frame.instance, keyword)
    ]
    anatomies = [
        anatomy
        for groups in items(frame.instance, "SharedFunctionalGroupsSequence")
        for anatomy in items(groups, "FrameAnatomySequence")
    ]
    for place in (frame.instance, *anatomies):
        for region in items(place, "AnatomicRegionSequence"):
            texts.extend(words(region, "CodeMeaning"))
    return _plain(texts)


def _plain(texts: Iterable[str]) -> str:
    # fields stay apart: a word must not arise from the end of one and the start of the next
    return " | ".join(re.sub(r"[^A-Z0-9]+", " ", text) for text in texts)
