"""``python -m labelwise`` is the command ``labelwise``; both begin here."""

import os
import signal
from contextlib import suppress

for _descriptor in range(3):
    # A standard stream that is closed would give its number to the next file that is opened, and
    # libraries take whatever has these numbers for standard streams.
    try:
        os.fstat(_descriptor)
    except OSError:
        with suppress(OSError):
            os.open(os.devnull, os.O_RDWR)

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command has its own way to stop: a KeyboardInterrupt here would print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from labelwise.commands.main import main  # noqa: E402 - what is above comes first


def start() -> None:
    """Run the command."""
    main(prog_name="labelwise")


if __name__ == "__main__":
    start()
