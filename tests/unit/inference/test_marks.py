import numpy as np

from inference.marks import Marks, Plane, Tissue
from inference.volume import SagittalVolume, SliceSource


def plane_with_one_pixel() -> Plane:
    probabilities = np.zeros((4, 10, 10), np.float32)
    probabilities[Tissue.DISC, 4, 6] = 1.0
    return Plane(probabilities=probabilities, pixel_mm=np.array([2.0, 0.5]))


def test_a_plane_is_sampled_in_millimetres() -> None:
    plane = plane_with_one_pixel()
    places = np.array([[8.0, 3.0], [9.0, 3.0], [8.0, 3.25]])  # its centre; half a pixel below; half a pixel behind
    assert plane.sample(Tissue.DISC, places).tolist() == [1.0, 0.5, 0.5]
    assert plane.sample(Tissue.CANAL, places).tolist() == [0.0, 0.0, 0.0]


def test_nothing_is_marked_outside_the_image() -> None:
    plane = Plane(probabilities=np.ones((4, 10, 10), np.float32), pixel_mm=np.array([1.0, 1.0]))
    assert plane.sample(Tissue.DISC, np.array([[-3.0, 5.0], [5.0, 5.0], [5.0, 13.0]])).tolist() == [0.0, 1.0, 0.0]
    assert plane.inside(np.array([[-0.1, 5.0], [0.0, 9.0], [9.1, 0.0]])).tolist() == [False, True, False]


def test_pixel_edges_of_marks_and_volume_coincide() -> None:
    """Marks of 1 mm over voxels of 0.5 mm: the first mark covers voxels 0 and 1, so its centre is at voxel 0.5."""
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = np.array([[-4.0, 0, 0], [0, 0, 0.5], [0, -0.5, 0]])
    volume = SagittalVolume(
        voxels=np.zeros((3, 20, 20), np.float32),
        voxel_to_patient=affine,
        sources=tuple(SliceSource(sop_instance_uid=f"1.{k}", frame=1) for k in range(3)),
        series_instance_uid="1",
        series_description="",
    )
    marks = Marks(
        probabilities=np.zeros((3, 4, 10, 10), np.float32),
        slice_indices=(0, 1, 2),
        pixel_mm=np.array([1.0, 1.0]),
        voxels_per_pixel=np.array([2.0, 2.0]),
    )
    place = marks.to_patient(volume, 2, np.array([[0.0, 0.0], [9.0, 0.0]]))
    np.testing.assert_allclose(volume.to_voxel(place), [[2, 0.5, 0.5], [2, 18.5, 0.5]])


def test_blending_follows_the_spine_from_slice_to_slice() -> None:
    probabilities = np.zeros((3, 4, 2, 1), np.float32)
    probabilities[0, Tissue.DISC, 0] = 1.0  # upper row: on the first slice
    probabilities[2, Tissue.DISC, 1] = 1.0  # lower row: on the last
    marks = Marks(
        probabilities=probabilities,
        slice_indices=(0, 1, 2),
        pixel_mm=np.array([1.0, 1.0]),
        voxels_per_pixel=np.array([1.0, 1.0]),
    )
    followed = marks.blended(np.array([0.0, 2.0]), reach=0.5).probabilities[Tissue.DISC, :, 0]
    np.testing.assert_allclose(followed, [0.75, 0.75])  # weights 1 and 1/3 of the neighbour
    straight = marks.blended(np.array([1.0, 1.0]), reach=0.0).probabilities[Tissue.DISC, :, 0]
    np.testing.assert_allclose(straight, [0.0, 0.0])
