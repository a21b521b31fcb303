"""Rewrite the generated parts of the documents: python docs/generate.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from labelwise import errors, options
from labelwise.server import app, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def routes() -> str:
    """All routes, what each method does, and whether it may need an access token."""
    lines = ["| path | method | what it does | access token |", "| --- | --- | --- | --- |"]
    for path, methods in (app.SHARED | app.OWN).items():
        closed = "never" if path in app.PUBLIC else "where there is one"
        for method, endpoint in methods.items():
            does = (endpoint.__doc__ or "").partition("\n")[0]
            lines.append(f"| `{path.replace(':path', '')}` | {method} | {does} | {closed} |")
    return "\n".join(lines)


def statuses() -> str:
    """All errors that callers meet, by status."""
    lines = ["| status | when |", "| --- | --- |"]
    found = sorted(_statuses(errors.LabelwiseError), key=lambda row: row[0])
    return "\n".join([*lines, *(f"| {status} | {when} |" for status, when in found)])


def _statuses(root: type[errors.LabelwiseError]) -> Iterator[tuple[int, str]]:
    for kind in root.__subclasses__():
        if kind is not errors.BadModel:  # what a server loads, it loads before it listens
            yield kind.status, (kind.__doc__ or "").partition("\n")[0]
            yield from _statuses(kind)
        else:
            yield errors.ModelNotFound.status, "There is no model of that id here."


# A document and a part of it, to what writes that part.
PARTS = {
    ("settings.md", "settings"): options.table,
    ("http-api.md", "routes"): routes,
    ("http-api.md", "statuses"): statuses,
    ("limits.md", "limits"): lambda: options.table("max_", "request_", "cache_"),
    ("operations.md", "log"): lambda: options.table("log_"),
    ("operations.md", "metrics"): metrics.table,
}


def main() -> None:
    """Put what is true now between the two markers of each part."""
    for (document, part), write in PARTS.items():
        path = HERE / document
        path.write_text(replaced(path.read_text("utf-8"), part, write()), "utf-8")


def replaced(text: str, part: str, content: str) -> str:
    """*text* with *content* between the two markers of *part*."""
    markers = rf"(?s)(?<=<!-- {part} -->\n).*?(?=<!-- end of {part} -->)"
    new, count = re.subn(markers, lambda _: content + "\n", text)
    if count != 1:
        raise SystemExit(f"a document needs both markers of {part}, once")
    return new


if __name__ == "__main__":
    main()
