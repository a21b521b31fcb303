"""Rewrite the generated parts of the documents: python docs/generate.py."""

from __future__ import annotations

import re
from pathlib import Path

from labelwise import settings

PARTS = {("settings.md", "settings"): settings.table}  # a document and a part to what writes it


def main() -> None:
    """Put what is true now between the two markers of each part."""
    for (document, part), write in PARTS.items():
        path = Path(__file__).with_name(document)
        markers = rf"(?s)(?<=<!-- {part} -->\n).*(?=\n<!-- end of {part} -->)"
        text, count = re.subn(markers, lambda _, write=write: write(), path.read_text("utf-8"))
        if count != 1:
            raise SystemExit(f"{document} needs both markers of {part}, once")
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
