"""Rewrite the generated parts of the documents: python docs/generate.py."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from labelwise import errors, options
from labelwise.engine import architectures, folder
from labelwise.engine.tokenizer import classes as tokenizer_classes
from labelwise.server import http
from labelwise.server.observe import metrics
from labelwise.server.routes import ROUTES
from labelwise.serving import listing

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def routes() -> str:
    """All routes, what each method does, and whether it may need an access token."""
    lines = ["| path | method | what it does | access token |", "| --- | --- | --- | --- |"]
    for route in ROUTES:
        closed = "never" if route.scope == "public" else "where there is one"
        path = re.sub(r":\w+\}", "}", route.path)
        lines.append(f"| `{path}` | {route.method} | {route.summary} | {closed} |")
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


def bounds() -> str:
    """What connections may take, and what happens where they take more."""
    lines = ["| at most | of what | then |", "| --- | --- | --- |"]
    for bound in fields(http.Bounds):
        unit = " s" if bound.name.endswith("seconds") else ""
        cells = (f"{bound.default:_}{unit}", bound.metadata["help"], bound.metadata["then"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def types() -> str:
    """The types of models that are read, one a line."""
    return "\n".join(f"- `{name}`" for name in architectures.supported())


def refused() -> str:
    """All that is known not to be a text classifier's, what shows it, and what to do."""
    lines = ["| what it is | what shows it | what to do |", "| --- | --- | --- |"]
    for what, shown, kinds in (
        ("{}", "the file {}", [folder.ADAPTER, *folder.EMBEDDERS]),
        ("a model that {}", "`architectures` names a class that ends in {}", folder.TASKS),
        ("{}", "no head for text classification, but weights with {} in their names", folder.HEADS),
        ("{} that is not merged", "weights with {} in their names", [folder.UNMERGED]),
        ("weights quantized by {}", "weights with {} in their names", folder.QUANTIZED),
        ("{}", "no weights that are read, but a file whose name ends in {}", folder.OTHER_WEIGHTS),
    ):
        for kind in kinds:
            marks = " or ".join(f"`{mark}`" for mark in kind.marks)
            cells = (what.format(kind.what), shown.format(marks), kind.instead)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# A document and a part of it, to what writes that part.
PARTS = {
    ("settings.md", "settings"): options.table,
    ("settings.md", "listings"): listing.table,
    ("model-folders.md", "tokenizers"): tokenizer_classes.table,
    ("http-api.md", "routes"): routes,
    ("http-api.md", "statuses"): statuses,
    ("model-folders.md", "types"): types,
    ("model-folders.md", "refused"): refused,
    ("limits.md", "limits"): lambda: options.table("max_", "request_", "cache_"),
    ("limits.md", "bounds"): bounds,
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
