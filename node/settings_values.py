"""What settings are made of: values with their checks, and the kind of table they stand in."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def checked_ae_title(value: str) -> str:
    """An AE title has 1-16 characters of the default repertoire without backslash (PS3.5 section 6.2, VR AE)."""
    if not 1 <= len(value.strip()) <= 16 or "\\" in value or not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash")
    return value.strip()


def _address(value: str) -> str:
    ip_network(value, strict=False)  # raises ValueError with the text
    return value


AeTitle = Annotated[str, AfterValidator(checked_ae_title)]
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
# the lower bound stands at each key: of two bounds of the same kind only one would hold
Seconds = Annotated[float, Field(le=10 * 365 * 86400, allow_inf_nan=False)]
"""At most ten years: a time that is that much later can still be reckoned with."""
Timeout = Annotated[float, Field(le=86400, allow_inf_nan=False)]
"""Of a connection, in seconds; a socket takes no more than some weeks."""
Days = Annotated[float, Field(le=36500, allow_inf_nan=False)]
Megabytes = Annotated[int, Field(le=2**30)]
Count = Annotated[int, Field(le=1_000_000)]
OutputName = Literal[
    "measurement_report",
    "text_report",
    "secondary_capture",
    "segmentation",
    "parametric_map",
    "presentation_state",
    "encapsulated_pdf",
    "key_object_selection",
    "rejection_note",
]


class SettingsTable(BaseModel):
    """One table of the settings file: it does not change, and knows all of its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
