"""The one option that every command of a node has: where its settings are."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SPINENODE_CONFIG",
    help="Settings file (TOML); without it the embedded defaults hold. Also by SPINENODE_CONFIG.",
)
