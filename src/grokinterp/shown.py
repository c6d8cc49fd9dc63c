"""How objects show themselves: a short line at a prompt, a table in a notebook. No library is needed for it,
and everything is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

Rows = Sequence[tuple[str, object]]


class Shown:
    """What has a title and rows of names and values. A dataclass takes it with `repr=False`."""

    def _in_a_line(self) -> str:
        """What it is, in a line."""
        raise NotImplementedError

    def _as_rows(self) -> Rows:
        """What a person wants to know of it: names and values."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._in_a_line()}>"

    def _repr_html_(self) -> str:
        return html_table(f"{type(self).__name__} {self._in_a_line()}", ["", ""], self._as_rows())


class Found(Shown):
    """What was found and is printed to be read: a line for each row."""

    def __str__(self) -> str:
        rows = [(name, in_words(value)) for name, value in self._as_rows()]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(
            [self._in_a_line(), *(f"  {name:{width}}  {value}".rstrip() for name, value in rows)]
        )


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with its title, as every front end of notebooks shows it."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header) if any(header) else ""
    cell = '<td style="text-align: left; vertical-align: top; white-space: normal">{}</td>'
    body = "".join(
        f"<tr>{''.join(cell.format(html.escape(in_words(value))) for value in row)}</tr>" for row in rows
    )
    return (
        f"<table><caption style='text-align: left'><b>{html.escape(title)}</b></caption>"
        f"{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"
    )


def duration(seconds: float) -> str:
    """A time with two digits, in the unit that fits."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1g} s"


def in_words(value: object) -> str:
    """A plain value as a person writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(in_words, value)) or "none"
    return str(value)


def size(count: int) -> str:
    """Bytes as a person reads them."""
    unit, length = next(((unit, n) for unit, n in (("GB", 1e9), ("MB", 1e6)) if count >= n), ("kB", 1e3))
    return f"{count / length:.1f} {unit}"
