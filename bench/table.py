"""The one table, readable on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from bench.measure import Row

HEAD = ("row", "measured", "95 %", "bar", "", "beside")


def render(machine: dict[str, str], rows: Iterable[Row]) -> str:
    """The machine, then the rows."""
    lines = [f"- {key}: {value}" for key, value in machine.items()]
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    table = [_line(line, widths) for line in cells]
    table.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, "", *table])


def _cells(row: Row) -> tuple[str, ...]:
    if row.measured is None:
        return (row.name, "", "", str(row.bar or ""), row.verdict, row.beside)
    low, high = (_number(value, row.unit) for value in (row.measured.low, row.measured.high))
    return (
        row.name,
        f"{_number(row.measured.median, row.unit)} {row.unit}".strip(),
        f"{low}–{high}",
        str(row.bar or ""),
        row.verdict,
        row.beside,
    )


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "×" else f"{value:,.0f}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
