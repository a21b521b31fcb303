"""``python -m labelwise`` is the command ``labelwise``; both begin here."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command has its own way to stop: a KeyboardInterrupt here would print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from labelwise.cli import main


def start() -> None:
    """Run the command."""
    main(prog_name="labelwise")


if __name__ == "__main__":
    start()
