"""Reading the trace's node and pod lists (CSV), with errors that name file, line, column and what to do.

Columns as Alibaba publishes them (cluster-trace-gpu-v2023): nodes `sn, cpu_milli, memory_mib, gpu, model`; pods `name,
cpu_milli, memory_mib, num_gpu, gpu_milli` and, in some lists, `gpu_spec`: models joined by `|`, empty for any. Other
columns are not looked at. Nodes without a GPU are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.base.errors import UserError
from atoll.scheduling.devices.model import WHOLE, Machine, Request

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
_MOST = 10**12  # more than any amount can be
_MOST_DEVICES = 63


@dataclass(frozen=True, slots=True)
class Trace:
    """GPU nodes, and pods ordered by name."""

    machines: tuple[Machine, ...]
    pods: tuple[Request, ...]

    @property
    def gpus(self) -> int:
        return sum(machine.devices for machine in self.machines)


@dataclass(frozen=True, slots=True)
class _Line:
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


def read(nodes: Path, pods: Path) -> Trace:
    """Both lists. Raises UserError."""
    machines, models = _read_nodes(nodes)
    return Trace(tuple(machines), tuple(_read_pods(pods, nodes, models)))


def _read_nodes(path: Path) -> tuple[list[Machine], set[str]]:
    machines: list[Machine] = []
    names: dict[str, int] = {}
    for line in _lines(path, NODE_COLUMNS):
        _unique(line, "sn", names)
        devices = line.amount("gpu", _MOST_DEVICES)
        cpu, memory = line.amount("cpu_milli"), line.amount("memory_mib")
        if devices:
            machines.append(Machine(line.text("sn"), cpu, memory, devices, line.text("model")))
    if not machines:
        raise UserError(
            f"{path}, column gpu: no node has a GPU", hint="give a list with at least one node whose gpu > 0"
        )
    return machines, {machine.model for machine in machines}


def _read_pods(path: Path, nodes: Path, models: set[str]) -> list[Request]:
    named: list[tuple[str, Request]] = []
    names: dict[str, int] = {}
    for line in _lines(path, POD_COLUMNS):
        _unique(line, "name", names)
        count, milli = line.amount("num_gpu"), line.amount("gpu_milli", WHOLE)
        if (count == 0) != (milli == 0):
            raise line.wrong(
                "gpu_milli", f"{milli} does not go with num_gpu {count}", "0 for pods without GPU, else 1 to 1000 a GPU"
            )
        request = Request(
            line.amount("cpu_milli"),
            line.amount("memory_mib"),
            count,
            milli,
            _models(line, nodes, models) if count else frozenset(),
        )
        named.append((line.text("name"), request))
    if not any(request.gpu_milli for _, request in named):
        raise UserError(f"{path}, column num_gpu: no pod asks for a GPU", hint="give a list with GPU pods")
    return [request for _, request in sorted(named, key=lambda item: item[0])]


def _models(line: _Line, nodes: Path, models: set[str]) -> frozenset[str]:
    found = frozenset(part.strip() for part in (line.values.get("gpu_spec") or "").split("|")) - {""}
    unknown = sorted(found - models)
    if unknown:
        raise line.wrong(
            "gpu_spec",
            f"unknown GPU model {unknown[0][:40]!r}",
            f"{nodes} has {', '.join(sorted(models))}; join several by |, or leave it empty for any",
        )
    return found


def _unique(line: _Line, column: str, seen: dict[str, int]) -> None:
    name = line.text(column)
    before = seen.setdefault(name, line.number)
    if before != line.number:
        raise line.wrong(column, f"{name[:40]!r} is also in line {before}", "give each row a name of its own")


def _lines(path: Path, columns: Sequence[str]) -> Iterator[_Line]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, csv.DictReader(file, strict=True), columns)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="give a CSV file that can be read") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason})", hint="give a CSV file") from error


def _rows(path: Path, reader: csv.DictReader[str], columns: Sequence[str]) -> Iterator[_Line]:
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
            yield _Line(path, reader.line_num, values)
        if empty:
            raise UserError(f"{path}, line 2: there are no rows below the header", hint="add a row for each of them")
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}", hint="mend the row's quotes") from error
