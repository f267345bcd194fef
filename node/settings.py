"""All settings of the node: one TOML file, overridden by environment variables, frozen.

An unknown key or a bad value is a refusal at start that names the key. Environment variables are
``SPINENODE_<TABLE>__<KEY>``, e.g. ``SPINENODE_RECEIVER__PORT=11113``.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from node.settings_delivery import ArchiveSettings, DeliverySettings
from node.settings_environment import complaints
from node.settings_monitoring import MonitoringSettings, NoticeSettings
from node.settings_proof import ProofSettings, RetentionSettings
from node.settings_values import (
    Address,
    AeTitle,
    Count,
    Megabytes,
    OutputName,
    Port,
    Seconds,
    SettingsTable,
    Timeout,
    checked_ae_title,
)

__all__ = ["ArchiveSettings", "DeliverySettings", "Settings", "SettingsError", "checked_ae_title", "load"]


class SettingsError(Exception):
    """The settings cannot be used; the message names each key and what is wrong with it."""


Language = Literal["en", "de"]
PartName = Literal["receiver", "worker", "dispatcher"]


class NodeSettings(SettingsTable):
    data_dir: Path = Path("spinenode-data")
    """Holds the spool and, by default, the ledger. Local disk, never a network file system."""
    database_url: str = ""
    """Empty: SQLite in ``data_dir``. Else an SQLAlchemy URL, e.g. postgresql+psycopg://user@host/spinenode."""
    spool_dir: Path | None = None
    """Images and results; none: ``data_dir``/spool. Nodes that share a database share it too."""
    parts: tuple[PartName, ...] = ("receiver", "worker", "dispatcher")
    """What runs here: a machine that only grades for another one has its workers alone."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that grade, one study at a time each; more than one need PostgreSQL."""
    worker_dead_after_s: Seconds = Field(default=60, ge=2)
    """A worker that gives no sign for so long is dead: the others take its study."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["plain", "json"] = "plain"

    @field_validator("parts")
    @classmethod
    def _each_part_once(cls, parts: tuple[PartName, ...]) -> tuple[PartName, ...]:
        if not parts or len(set(parts)) < len(parts):
            raise ValueError("name at least one part, and each once (more workers: node.workers)")
        return parts


class ReceiverSettings(SettingsTable):
    ae_title: AeTitle = "SPINENODE"
    host: str = "127.0.0.1"
    port: Port = 11112
    allowed_calling_ae_titles: tuple[AeTitle, ...] = ()
    """Empty: any calling AE title."""
    allowed_addresses: tuple[Address, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses or CIDR ranges that may associate."""
    require_called_ae_title: bool = True
    plain: bool = True
    """False: associations with TLS only."""
    tls_port: int = Field(default=0, ge=0, le=65535)
    """0: no TLS. 2762 is registered for it."""
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    """PEM. With it, a peer must show a certificate of one of these authorities."""
    stow_port: int = Field(default=0, ge=0, le=65535)
    """0: no STOW-RS. With the TLS certificate, where one is set."""
    stow_token_file: Path | None = None
    """Holds the token that a request must bear; readable by its owner alone."""
    maximum_associations: int = Field(default=100, ge=1, le=1000)
    maximum_associations_per_address: int = Field(default=50, ge=1, le=1000)
    maximum_associations_per_calling_ae_title: int = Field(default=50, ge=1, le=1000)
    maximum_object_mb: Megabytes = Field(default=4096, ge=1)
    maximum_pdu_bytes: int = Field(default=0, ge=0, le=2**32 - 1)
    """0 = unlimited: 1.25 times faster than 16 KiB with the peers measured."""
    acse_timeout_s: Timeout = Field(default=30, gt=0)
    network_timeout_s: Timeout = Field(default=120, gt=0)
    minimum_free_mb: Megabytes = Field(default=2048, ge=0)
    """Below this much free disk associations are refused, and every C-STORE of those that are open is answered 0xA700
    (out of resources); nothing is deleted."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it listens: without TLS, with TLS, or both."""
        return ((self.port,) if self.plain else ()) + tuple(port for port in (self.tls_port, self.stow_port) if port)

    @model_validator(mode="after")
    def _listens_somewhere(self) -> ReceiverSettings:
        if not self.plain and not self.tls_port:
            raise ValueError("plain = false needs a tls_port: else nobody could send")
        if self.tls_port and not (self.tls_certificate_file and self.tls_key_file):
            raise ValueError("tls_port needs tls_certificate_file and tls_key_file")
        if self.stow_port and not self.stow_token_file:
            raise ValueError("stow_port needs stow_token_file")
        if self.stow_port and not self.tls_certificate_file and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("stow_port needs tls_certificate_file and tls_key_file: the token would travel in clear")
        return self


class AssemblySettings(SettingsTable):
    quiet_s: Seconds = Field(default=30, gt=0)
    """A study closes when no new image came for this long."""
    count_confirmed_s: Seconds = Field(default=15, gt=0)
    """... or when its sender (``senders.query_host``) told for this long that it has no more than came."""
    maximum_wait_s: Seconds = Field(default=3600, gt=0)
    """... and at the latest this long after its first image."""
    start_early: bool = False
    """Grade as soon as the T2 sagittal series is whole, while the rest of the study still arrives."""
    series_quiet_s: Seconds = Field(default=10, gt=0)
    """With ``start_early``: that series is whole when no slice lacks and no new image of it came for this long."""


class InferenceSettings(SettingsTable):
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of the worker; 0 = as many as there are cores."""
    minimum_slices: Count = Field(default=5, ge=1)
    """The service declines a T2 sagittal series with fewer slices."""
    withhold_levels_below: float = Field(default=0.5, ge=0, le=1)
    """Discs whose level is less sure than this are numbered from below instead of named."""
    unsure_below: float = Field(default=0.6, ge=0, le=1)
    unsure_pfirrmann_below: float = Field(default=0.45, ge=0, le=1)
    """Grades whose probability is lower are told as uncertain."""
    maximum_attempts: Count = Field(default=2, ge=1)
    """A study that has taken its worker down this often waits for the operator instead."""
    time_limit_s: Seconds = Field(default=600, gt=0)
    """A study that takes longer hangs: its worker is ended, and started again."""


class ResultSettings(SettingsTable):
    outputs: tuple[OutputName, ...] = ("measurement_report", "text_report", "secondary_capture")
    report_declined: bool = True
    """Send a text report that says why a study was not graded."""
    language: Language = "en"
    """Of text report, pictures, overlay and PDF."""
    capture_form: Literal["single_frame", "multi_frame"] = "single_frame"
    """An object for each page, or one of all pages for the archives that take it."""
    capture_geometry: bool = False
    """Captures of slices say where in the patient they lie (a Standard Extended SOP Class)."""
    tracking_key: str = ""
    """Secret behind the Tracking UIDs; empty: made at the first start and kept in ``node.data_dir``."""
    institution_name: str = ""
    station_name: str = "SPINENODE"
    series_number_base: int = Field(default=9000, ge=1, le=99999)

    @model_validator(mode="after")
    def _geometry_has_a_form(self) -> ResultSettings:
        if self.capture_geometry and self.capture_form == "multi_frame":
            raise ValueError('capture_geometry needs capture_form = "single_frame"')
        return self


class SenderSettings(SettingsTable):
    """What is known of one that sends studies."""

    ae_title: AeTitle
    quiet_s: Seconds | None = Field(default=None, gt=0)
    """In place of assembly.quiet_s, for its studies."""
    priority: int = Field(default=0, ge=-9, le=9)
    """Of its studies: the higher is served first, but none waits for ever; see ``delivery.priority_head_start_s``."""
    query_host: str = ""
    """Set: it is asked (C-FIND, under its AE title) how many images a study has."""
    query_port: Port = 104
    query_tls: bool = False
    query_tls_ca_file: Path | None = None
    query_tls_certificate_file: Path | None = None
    query_tls_key_file: Path | None = None
    query_tls_server_name: str = ""

    @model_validator(mode="after")
    def _certificates_belong_together(self) -> SenderSettings:
        files = (self.query_tls_ca_file, self.query_tls_certificate_file, self.query_tls_key_file)
        if (files[1] is None) != (files[2] is None):
            raise ValueError("query_tls_certificate_file and query_tls_key_file go together")
        if any(files) and not self.query_tls:
            raise ValueError("query_tls_* files are set, and query_tls is not true: it would ask in clear")
        return self


class Settings(BaseSettings):
    """Everything that can be set. See ``deploy/node.toml`` for each key with its comment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="SPINENODE_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    node: NodeSettings = NodeSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    assembly: AssemblySettings = AssemblySettings()
    inference: InferenceSettings = InferenceSettings()
    results: ResultSettings = ResultSettings()
    delivery: DeliverySettings = DeliverySettings()
    proof: ProofSettings = ProofSettings()
    retention: RetentionSettings = RetentionSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    notices: NoticeSettings = NoticeSettings()
    senders: tuple[SenderSettings, ...] = ()
    archives: tuple[ArchiveSettings, ...] = ()

    @model_validator(mode="after")
    def _archive_names_differ(self) -> Settings:
        names = [archive.name for archive in self.archives]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"archives: the name {name!r} is used twice; deliveries are kept by it")
        return self

    @model_validator(mode="after")
    def _workers_share_a_server(self) -> Settings:
        if self.node.workers > 1 and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"node.workers = {self.node.workers} needs PostgreSQL (node.database_url): "
                "a ledger in SQLite has one worker"
            )
        return self

    @property
    def is_monitored(self) -> bool:
        """Whether anybody may ask how the node is, or is to be told."""
        return bool(self.monitoring.port) or self.notices.is_set

    @property
    def database_url(self) -> str:
        return self.node.database_url or f"sqlite:///{(self.node.data_dir / 'node.db').absolute()}"

    @property
    def spool_dir(self) -> Path:
        return self.node.spool_dir or self.node.data_dir / "spool"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return EnvSettingsSource(settings_cls), init_settings  # the environment wins over the file


def load(path: Path | None) -> Settings:
    """Settings from a TOML file (or the embedded defaults) and the environment.

    Raises:
        SettingsError: naming the file or each key that is missing, unknown or wrong.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not valid TOML: {error}") from error
    if strange := complaints(os.environ, _keys()):
        raise SettingsError("\n".join(["bad settings in the environment:", *strange]))
    try:
        return Settings(**content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'settings'}: {_sentence(item)}" for item in error.errors()]
        source = str(path) if path is not None else "the environment"
        raise SettingsError("\n".join([f"bad settings in {source}:", *lines])) from error


def _keys() -> dict[str, tuple[str, ...]]:
    """Those of each table; none for a list of tables."""
    return {
        name: tuple(kind.model_fields) if isinstance(kind := field.annotation, type(SettingsTable)) else ()
        for name, field in Settings.model_fields.items()
    }


def _sentence(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key; see deploy/node.toml for all keys"
    return str(item["msg"])
