"""Loads the networks' weights: each file checked by sha256, loaded strictly, put on the device that was asked for.

Files and their sums stand in ``weights/MANIFEST.toml``. Only safetensors are read: no pickle, no code.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.networks import variants
from inference.networks.family import GradingNetwork
from inference.networks.localiser import Localiser
from inference.report import ModelIdentity

FOLDER = Path(__file__).parent / "weights"
MANIFEST = FOLDER / "MANIFEST.toml"

_Network = TypeVar("_Network", bound=nn.Module)


class WeightsError(Exception):
    """Weights are missing, are not the ones that were shipped, or do not fit the network; says which and what to do."""


class DeviceError(Exception):
    """The device asked for is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """What grading needs, ready to run."""

    localiser: nn.Module
    grader: GradingNetwork
    device: torch.device
    identity: ModelIdentity


def load_models(device: str) -> Models:
    """Both networks in eval mode on the device.

    Arguments:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises DeviceError, WeightsError.
    """
    place = device_of(device)
    manifest = read_manifest(MANIFEST)
    localiser = fused(_network(Localiser, "localiser", manifest)).to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    grader = read_grader(checked_file(FOLDER, "grader", manifest)).to(place)
    return Models(localiser=localiser, grader=grader, device=place, identity=identity_of(manifest))


def load_localiser(device: str) -> nn.Module:
    """The localiser alone, in eval mode on the device. Raises DeviceError, WeightsError."""
    network = fused(_network(Localiser, "localiser", read_manifest(MANIFEST)))
    placed: nn.Module = network.to(device_of(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def read_grader(path: Path) -> GradingNetwork:
    """The grading network of a weights file, built as its header says, in eval mode on the CPU. Raises WeightsError.

    The header holds ``config`` (the arguments) and ``variant``; files without one are of the variant by regions.
    """
    metadata = _header_of(path)
    try:
        network = variants.build(metadata.get("variant", variants.DEFAULT), config_of(path))
        network.load_state_dict(load_file(path), strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as mismatch:
        raise WeightsError(f"{path.name} does not fit the network its header names: {mismatch}") from mismatch
    return network.eval()


def device_of(wish: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` -> a device that is there; DeviceError otherwise."""
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = wish.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdigit())):
        raise DeviceError(f'device "{wish}" is not known: use auto, cpu, cuda or cuda:N')
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise DeviceError(
                f'device "{wish}" is not there ({count} CUDA devices seen): use auto or cpu, or check the driver'
            )
    return torch.device(wish)


def read_manifest(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Network name -> ``file`` and ``sha256``."""
    try:
        text = path.read_text()
    except FileNotFoundError as absent:
        raise WeightsError(f"{path.name} is missing from {path.parent}: install spinenode again") from absent
    manifest: Mapping[str, Mapping[str, str]] = tomllib.loads(text)
    return manifest


def identity_of(manifest: Mapping[str, Mapping[str, str]]) -> ModelIdentity:
    """Who speaks: the sha256 is taken over the files' own sums, sorted by network name."""
    together = "\n".join(f"{name} {manifest[name]['sha256']}" for name in sorted(manifest))
    version = "+".join(f"{name}-{manifest[name]['version']}" for name in sorted(manifest))
    return ModelIdentity(name="spinenode", version=version, sha256=hashlib.sha256(together.encode()).hexdigest())


def checked_file(folder: Path, name: str, manifest: Mapping[str, Mapping[str, str]]) -> Path:
    """The network's weights file once its sha256 is right; WeightsError otherwise."""
    if name not in manifest:
        raise WeightsError(f"no weights are listed for the {name} in {MANIFEST.name}")
    path = folder / manifest[name]["file"]
    if not path.exists():
        raise WeightsError(f"{path.name} is missing from {folder}: install spinenode again")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != manifest[name]["sha256"]:
        raise WeightsError(
            f"{path.name} is not the file that was shipped (sha256 {found[:12]}..., expected "
            f"{manifest[name]['sha256'][:12]}...): install spinenode again, or correct {MANIFEST.name} after training"
        )
    return path


def config_of(path: Path) -> dict[str, Any]:
    """Keyword arguments of the network's class, from the file's own header."""
    metadata = _header_of(path)
    if "config" not in metadata:
        raise WeightsError(f"{path.name} does not say which network it fits (no config in its header)")
    config: dict[str, Any] = json.loads(metadata["config"])
    return config


def _header_of(path: Path) -> Mapping[str, str]:
    with safe_open(path, framework="pt") as opened:
        return opened.metadata() or {}


def fused(network: nn.Module) -> nn.Module:
    """The same function with every batch normalisation folded into the convolution before it (eval mode, in place).

    Measured: halves the time of the localiser on a CPU.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential) or len(module) < 2:
            continue
        convolution, normalisation = module[0], module[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(convolution, normalisation)
            module[1] = nn.Identity()
    return network


def _network(kind: type[_Network], name: str, manifest: Mapping[str, Mapping[str, str]]) -> _Network:
    path = checked_file(FOLDER, name, manifest)
    try:
        network = kind(**config_of(path))
        network.load_state_dict(load_file(path), strict=True)
    except (TypeError, RuntimeError) as mismatch:
        raise WeightsError(f"{path.name} does not fit the network {kind.__name__}: {mismatch}") from mismatch
    return network.eval()
