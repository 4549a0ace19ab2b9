"""CSV lists that others made, read row by row: a mistake is told with file, line, column and what to do."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.base.errors import UserError

_MOST = 10**12  # more than any amount can be


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a list; knows where it stands."""

    path: Path
    number: int
    values: dict[str, str]

    def wrong(self, column: str, problem: str, hint: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}, column {column}: {problem}", hint=hint)

    def text(self, column: str) -> str:
        value = self.values[column].strip()
        if not value:
            raise self.wrong(column, "is empty", f"give every row a {column}")
        return value

    def amount(self, column: str, most: int = _MOST) -> int:
        value = self.text(column)
        if not (value.isascii() and value.isdigit()) or int(value[:20]) > most:
            kind = "a whole number" if most == _MOST else f"a whole number from 0 to {most}"
            raise self.wrong(column, f"{value[:40]!r} is not {kind}", f"write {kind}, without unit, sign or point")
        return int(value)


def unique(line: Line, column: str, seen: dict[str, int]) -> None:
    name = line.text(column)
    before = seen.setdefault(name, line.number)
    if before != line.number:
        raise line.wrong(column, f"{name[:40]!r} is also in line {before}", "give each row a name of its own")


def lines(path: Path, columns: Sequence[str]) -> Iterator[Line]:
    """The rows of a file that has at least these columns. Raises UserError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, csv.DictReader(file, strict=True), columns)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="give a CSV file that can be read") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason})", hint="give a CSV file") from error


def _rows(path: Path, reader: csv.DictReader[str], columns: Sequence[str]) -> Iterator[Line]:
    expected = f"the first line names the columns, at least: {','.join(columns)}"
    try:
        header = reader.fieldnames
        if not header:
            raise UserError(f"{path}, line 1: the file is empty", hint=expected)
        missing = [column for column in columns if column not in header]
        if missing:
            raise UserError(f"{path}, line 1, column {missing[0]}: is missing", hint=expected)
        empty = True
        for values in reader:
            empty = False
            short = next((name for name, value in values.items() if name is None or value is None), "")
            if short != "":
                problem = "more values than columns" if short is None else f"column {short}: has no value"
                raise UserError(f"{path}, line {reader.line_num}, {problem}", hint=f"write {len(header)} values in it")
            yield Line(path, reader.line_num, values)
        if empty:
            raise UserError(f"{path}, line 2: there are no rows below the header", hint="add a row for each of them")
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}", hint="mend the row's quotes") from error
