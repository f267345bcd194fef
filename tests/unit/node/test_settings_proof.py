"""Settings of proof and retention: what is refused, by name, and how often deletion is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.retention import look_every_s
from node.settings import Settings, SettingsError, load

PACS = '[[archives]]\nname = "pacs"\nae_title = "PACS"\nhost = "192.0.2.1"\nport = 104\n'
WEB = '[[archives]]\nname = "web"\nstow_url = "https://pacs.example/dicom-web"\n'


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "node.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[retention]\nimages_days = 0\n", r"retention\.images_days: .*greater than 0"),
        ("[retention]\nimages_days = 100\n", r"retention: .*images_days, results_days and rows_days must not shrink"),
        ("[retention]\nrows_days = 80\n", r"retention: .*must not shrink"),
        ("[retention]\nimage_days = 5\n", r"retention\.image_days: unknown key"),
        ("[proof]\noverdue_s = 0\n", r"proof\.overdue_s: .*greater than 0"),
        ("[proof]\nsent_again = -1\n", r"proof\.sent_again"),
        (f'{PACS}proof = "maybe"\n', r"archives\.0\.proof: .*'auto', 'commitment', 'query' or 'none'"),
        (f'{WEB}proof = "commitment"\n', r"STOW-RS has no storage commitment"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, text)


def test_archives_prove_in_the_way_they_offer_unless_told_otherwise(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f'{PACS}\n{WEB}proof = "none"\n')
    assert [archive.proof for archive in settings.archives] == ["auto", "none"]


@pytest.mark.parametrize(("images_days", "every_s"), [(30, 600), (0.01, 86.4), (0.00001, 1)])
def test_short_times_are_looked_at_often(images_days: float, every_s: float) -> None:
    settings = Settings.model_validate({"retention": {"images_days": images_days}})
    assert look_every_s(settings) == pytest.approx(every_s)
