"""The T1-weighted sagittal series of a study that lies in the frame of reference of the one that is graded.

Modic types need it. It must be plain T1: contrast medium makes type 1 bright, and fat suppression type 2 dark.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from inference.contrast import Weighting, contrast_of, is_fat_suppressed
from inference.coverage import sagittal_frames, wrong_coverage
from inference.frames import Frame, read_frames, value, words
from inference.image_type import component_of, derived, why_not_an_original
from inference.stacking import Stacked, stack_frames
from inference.volume import Unsuitable

USED = "used for the Modic types"
"""Behind the reason why the series was not graded."""
NONE_THERE = (
    "Modic types were not assessed: the study has no plain T1-weighted sagittal series in the frame of reference of "
    "the graded one."
)
"""What a reader is told where a marrow change is seen and its type cannot be."""


def find(instances: Sequence[Dataset], graded: Sequence[Frame]) -> Stacked | None:
    """The T1 series with the finest pixels that can be stacked, or None. ``graded``: the frames of the T2 series."""
    reference = _frame_of_reference(graded[0]) if graded else ""
    if not reference:
        return None
    by_series: dict[str, list[Frame]] = {}
    own = graded[0].series_instance_uid
    for frame in read_frames(instances):
        if frame.series_instance_uid != own and _frame_of_reference(frame) == reference and _is_plain_t1(frame):
            by_series.setdefault(frame.series_instance_uid, []).append(frame)
    for frames in sorted(by_series.values(), key=_rank):
        kept, fault = sagittal_frames(tuple(frames), [])
        if fault is None and wrong_coverage(kept) is None:
            try:
                return stack_frames(kept)
            except Unsuitable:
                continue  # spoilt: the next one, or none
    return None


def _frame_of_reference(frame: Frame) -> str:
    return " ".join(words(frame.instance, "FrameOfReferenceUID"))


def _is_plain_t1(frame: Frame) -> bool:
    return (
        frame.modality == "MR"
        and why_not_an_original(frame) is None
        and component_of(frame) in {"magnitude", "in-phase"}
        and contrast_of(frame).weighting is Weighting.T1
        and not is_fat_suppressed(frame)
        and value(frame.instance, "ContrastBolusAgent") is None
        and value(frame.instance, "ContrastBolusAgentSequence") is None
    )


def _rank(frames: Sequence[Frame]) -> tuple[bool, float, str]:
    return derived(frames[0]), max(frames[0].spacing_mm or (99.0,)), frames[0].series_instance_uid
