import numpy as np
import torch

from inference.training.augmentation import (
    COLUMNS,
    ROWS,
    STORED_PIXEL_MM,
    Chance,
    Label,
    LabelledSlice,
    View,
    plain_view,
    view_of,
)

DISC_PIXELS = 15 * 54


def a_slice(*, sacrum_known: bool = True) -> LabelledSlice:
    """Grey 0.2, with a bright disc 32 mm wide over a dark body; S1 and its surroundings beneath; an unknown corner."""
    pixels, labels = np.full((1, 400, 320), 0.2, np.float32), np.zeros((1, 400, 320), np.uint8)
    for label, rows, columns, grey in (
        (Label.VERTEBRA, slice(150, 185), slice(140, 194), 0.5),
        (Label.DISC, slice(185, 200), slice(140, 194), 0.9),
        (Label.BESIDE_SACRUM, slice(200, 250), slice(130, 204), 0.4),
        (Label.SACRUM, slice(200, 228), slice(145, 190), 0.4),
        (Label.UNKNOWN, slice(0, 100), slice(0, 320), 0.2),
    ):
        labels[0, rows, columns] = label
        pixels[0, rows, columns] = grey
    return LabelledSlice(pixels=pixels, labels=labels, sacrum_known=sacrum_known)


def views(count: int = 12) -> list[View]:
    return [view_of(a_slice(), Chance((3, number))) for number in range(count)]


def test_the_same_chance_gives_the_same_view_and_another_chance_another() -> None:
    one, same, other = (view_of(a_slice(), Chance((3, number))) for number in (5, 5, 6))
    assert torch.equal(one.pixels, same.pixels)
    assert not torch.equal(one.pixels, other.pixels)


def test_views_are_bounded_and_finite() -> None:
    for view in views():
        assert view.pixels.shape == (ROWS, COLUMNS)
        assert view.targets.shape == view.weights.shape == (4, ROWS, COLUMNS)
        assert torch.isfinite(view.pixels).all()
        assert view.pixels.abs().max() <= 2
        assert view.targets.min() >= 0
        assert view.targets.max() <= 1 + 1e-5
        assert view.weights.min() >= -1e-5
        assert view.weights.max() <= 1 + 1e-5


def test_size_on_the_view_stays_within_the_zoom() -> None:
    """The disc is 15 x 54 pixels; most views zoom 0.75-1.3, some up to 1.7; edges may cut it away."""
    areas = [float(view.targets[0].sum()) for view in views(40)]
    assert max(areas) < DISC_PIXELS * 1.7**2 * 1.1
    assert np.quantile(areas, 0.8) < DISC_PIXELS * 1.3**2 * 1.1
    assert np.median([area for area in areas if area > 50]) > DISC_PIXELS * 0.4


def test_nothing_is_taught_where_nothing_is_known() -> None:
    plain = plain_view(a_slice().pixels[0], a_slice().labels[0])
    assert plain.targets[:, :70].sum() == 0
    taught = [view for view in views() if view.weights[0].min() < 0.5]
    assert taught  # the unknown corner is met, and is left out of every channel
    for view in taught:
        unknown = view.weights[0] == 0
        assert (view.weights[3][unknown] == 0).all()


def test_a_sacrum_that_is_not_sure_is_not_taught() -> None:
    view = view_of(a_slice(sacrum_known=False), Chance((3, 0)))
    assert view.weights[3].sum() == 0
    assert view.weights[0].sum() > 0


def test_a_plain_view_changes_nothing_but_the_margins() -> None:
    labelled = a_slice()
    plain = plain_view(labelled.pixels[0], labelled.labels[0])
    assert plain.pixels.shape == (416, 320)  # multiples of 32
    assert float(plain.targets[0].sum()) == DISC_PIXELS
    assert torch.equal(plain.pixels[:400], torch.from_numpy(labelled.pixels[0]))
    assert STORED_PIXEL_MM == 0.6


def test_a_slab_is_the_mean_of_its_slices() -> None:
    """Two slices of which one shows the disc: half a disc is taught, as a thick slice would show it."""
    with_disc = a_slice()
    without = np.where(with_disc.labels == Label.DISC, Label.BACKGROUND, with_disc.labels).astype(np.uint8)
    slab = LabelledSlice(
        pixels=np.concatenate((with_disc.pixels, with_disc.pixels)),
        labels=np.concatenate((without, with_disc.labels)),
        sacrum_known=True,
    )
    one, two = view_of(with_disc, Chance((3, 2))), view_of(slab, Chance((3, 2)))
    assert float(one.targets[0].sum()) > 100
    torch.testing.assert_close(two.targets[0], one.targets[0] / 2)
