"""Statements of the ledger that run for every image, rendered once: SQLAlchemy's rendering costs more than the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql.expression import ClauseElement

_Encode = Callable[[Any], Any] | None


class _Rendered:
    """A statement in the words of one database, and how its values are handed over."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, columns: Sequence[str] | None) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
        self.sql = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup
        self._encode: dict[str, _Encode] = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in compiled.binds.items()
        }
        self._fixed = {name: bind.effective_value for name, bind in compiled.binds.items() if not bind.required}

    def parameters(self, values: Mapping[str, object]) -> Any:
        given = self._fixed | dict(values)
        encoded = {name: encode(given[name]) if encode else given[name] for name, encode in self._encode.items()}
        return encoded if self._order is None else tuple(encoded[name] for name in self._order)


class Prepared:
    """One statement, for every connection. Its results come as the driver gives them: ask it for no times.

    Args:
        statement: of SQLAlchemy Core, with ``bindparam`` for what changes.
        columns: of an insert, those that get a value.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._rendered: dict[str, _Rendered] = {}

    def run(self, connection: Connection, values: Mapping[str, object]) -> CursorResult[Any]:
        rendered = self._for(connection)
        return connection.exec_driver_sql(rendered.sql, rendered.parameters(values))

    def run_for_each(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        rendered = self._for(connection)
        connection.exec_driver_sql(rendered.sql, [rendered.parameters(row) for row in rows])

    def _for(self, connection: Connection) -> _Rendered:
        name = connection.dialect.name
        if name not in self._rendered:
            self._rendered[name] = _Rendered(self._statement, connection.dialect, self._columns)
        return self._rendered[name]
