"""``labelwise compare-int8``: int8 and fp32 on the same texts."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from labelwise.errors import escaped, one_line
from labelwise.models import agreement
from labelwise.models.locate import locate
from labelwise.models.model import Model
from labelwise.offline import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from labelwise.models.agreement import Agreement


def compare(name: str, data: Path, *, text: str | None, label: str | None, as_json: bool) -> None:
    """Compare the model *name* in int8 with itself in fp32 on the texts of *data*.

    *text* and *label* are columns, as `examples.read` takes them.

    Raises:
        BadInput: The data cannot be used, or the report not be written.
        BadModel: The model cannot be found, read or run.
    """
    found = examples.read(data, text, label)
    if found.column and not text:
        click.echo(one_line(f"The texts are those of the column {found.column}."), err=True)
    shows = sys.stderr is not None and sys.stderr.isatty()
    location = locate(name, progress=shows)
    exact, small = Model(location), Model(location, dtype="int8")
    classes = found.classes(exact.labels, several=exact.function == "sigmoid")
    with _progress(len(found.texts), shown=shows) as done:
        compared = agreement.compare(exact, small, found.texts, classes, done)
    path = agreement.write(compared, location)
    if as_json:
        click.echo(escaped(msgspec.json.format(msgspec.json.encode(compared)).decode()))
    else:
        _show(compared)
    click.echo(one_line(f"The report is in {path}."), err=True)
    click.echo(_verdict(compared), err=True)


@contextmanager
def _progress(texts: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """A function to tell how many more of the *texts* are done; it draws a bar on stderr."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - for terminals alone
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("comparing", total=texts)
        yield lambda count: progress.advance(task, count)


def _show(compared: Agreement) -> None:
    """A table of what was found."""
    from rich import box  # noqa: PLC0415 - not needed for JSON
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    rows = {
        "texts": str(compared.texts),
        "same label in int8 as in fp32": f"{compared.same_label:.2%}",
        "largest change of a score": f"{compared.largest_change:.4f}",
        "mean change of a score": f"{compared.mean_change:.4f}",
    }
    if compared.accuracy_float32 is not None and compared.accuracy_int8 is not None:
        rows["right in fp32"] = f"{compared.accuracy_float32:.2%}"
        rows["right in int8"] = f"{compared.accuracy_int8:.2%}"
    if compared.times_faster < 1:
        rows["int8 is slower here"] = f"{compared.times_faster:.2f} times as fast"
    else:
        rows["int8 is faster"] = f"{compared.times_faster:.2f} times"
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column(f"on this processor: {compared.processor}")
    table.add_column("", justify="right")
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)


def _verdict(compared: Agreement) -> str:
    if not compared.suffices:
        least = f"{agreement.LEAST:.0%}"
        return (
            f"Fewer than {least} of the texts keep their label: int8 is not served without "
            "--allow-unverified-int8."
        )
    if compared.times_faster < 1:
        return "int8 is slower than fp32 here: leave out --dtype int8, but for less memory."
    return "With --dtype int8 the model is served on processors of this class."
