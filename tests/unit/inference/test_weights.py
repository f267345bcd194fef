from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from inference import weights
from inference.networks.localiser import Localiser
from inference.training.localisation import write
from inference.weights import DeviceError, WeightsError, device_of, identity_of, load_localiser


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with a small localiser in it."""
    write(Localiser(widths=(4, 8)), tmp_path / "localiser.safetensors", version="7")
    list_it(tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(weights, "MANIFEST", tmp_path / "MANIFEST.toml")
    return tmp_path


def list_it(folder: Path) -> None:
    found = sha256((folder / "localiser.safetensors").read_bytes()).hexdigest()
    (folder / "MANIFEST.toml").write_text(
        f'[localiser]\nfile = "localiser.safetensors"\nversion = "7"\nsha256 = "{found}"\n'
    )


def test_what_was_written_is_loaded(folder: Path) -> None:
    network = load_localiser("cpu")
    assert network.widths == (4, 8)
    assert not network.training


def test_a_changed_file_is_refused(folder: Path) -> None:
    path = folder / "localiser.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"localiser\.safetensors is not the file that was shipped"):
        load_localiser("cpu")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "localiser.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"localiser\.safetensors is missing"):
        load_localiser("cpu")


def test_a_missing_manifest_is_named(folder: Path) -> None:
    (folder / "MANIFEST.toml").unlink()
    with pytest.raises(WeightsError, match=r"MANIFEST\.toml is missing"):
        load_localiser("cpu")


def test_an_unlisted_network_is_refused(folder: Path) -> None:
    (folder / "MANIFEST.toml").write_text("")
    with pytest.raises(WeightsError, match="no weights are listed for the localiser"):
        load_localiser("cpu")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    state = Localiser(widths=(4, 12)).state_dict()
    save_file(state, folder / "localiser.safetensors", metadata={"config": '{"widths": [4, 8]}'})
    list_it(folder)
    with pytest.raises(WeightsError, match="does not fit the network Localiser"):
        load_localiser("cpu")


def test_weights_without_a_description_are_refused(folder: Path) -> None:
    save_file(Localiser(widths=(4, 8)).state_dict(), folder / "localiser.safetensors")
    list_it(folder)
    with pytest.raises(WeightsError, match="does not say which network it fits"):
        load_localiser("cpu")


def test_every_weight_has_a_say_in_the_identity() -> None:
    manifest = {"localiser": {"sha256": "aa", "version": "1"}, "grader": {"sha256": "bb", "version": "2"}}
    identity = identity_of(manifest)
    assert identity.version == "grader-2+localiser-1"
    assert identity.sha256 == sha256(b"grader bb\nlocaliser aa").hexdigest()
    assert identity_of({**manifest, "grader": {"sha256": "cc", "version": "2"}}).sha256 != identity.sha256


@pytest.mark.parametrize("wish", ["gpu", "cuda:x", "cpu:1", "", "cuda:-1"])
def test_a_device_that_is_no_device_is_refused(wish: str) -> None:
    with pytest.raises(DeviceError, match="use auto, cpu, cuda or cuda:N"):
        device_of(wish)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1") == torch.device("cuda:1")
    assert device_of("auto") == torch.device("cuda")
    with pytest.raises(DeviceError, match='"cuda:2" is not there'):
        device_of("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match='"cuda" is not there'):
        device_of("cuda")


def test_the_shipped_localiser_is_the_one_in_the_manifest() -> None:
    assert not load_localiser("cpu").training
