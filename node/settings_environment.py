"""Environment variables that look like settings, and are none."""

from __future__ import annotations

from collections.abc import Collection, Mapping

PREFIX = "SPINENODE_"
NOT_SETTINGS = frozenset({"SPINENODE_CONFIG", "SPINENODE_DATA", "SPINENODE_OHIF"})
"""Read by the command line and by the tests."""


def complaints(names: Collection[str], keys: Mapping[str, Collection[str]]) -> list[str]:
    """A line for each variable that begins as a setting and names none: it would be passed over in silence.

    Args:
        names: of all environment variables; their case does not matter.
        keys: of each table of the settings; empty where it is a list of tables, which a variable gives as a whole.
    """
    meant = [name for name in sorted(names) if name.upper().startswith(PREFIX) and name.upper() not in NOT_SETTINGS]
    return [f"{name}: {why}" for name in meant if (why := _complaint(name[len(PREFIX) :].lower(), keys))]


def _complaint(rest: str, keys: Mapping[str, Collection[str]]) -> str:
    table, nested, key = rest.partition("__")
    if table not in keys:
        return "this environment variable names no setting; it is SPINENODE_<TABLE>__<KEY>, see deploy/node.toml"
    if nested and key not in keys[table]:
        return f"this environment variable names no key of [{table}]; see deploy/node.toml"
    return ""
