"""The program ``compress``, also as ``python -m compressor`` for launchers such as torchrun."""

import os
import signal
import sys
from types import FrameType


def run() -> None:
    """Run the command line of this process and leave with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, interrupt)
    from compressor.cli.main import main

    sys.exit(main(sys.argv[1:]))


def interrupt(number: int, frame: FrameType | None) -> None:
    """Answer Ctrl-C outside of a run: leave at once where something is being imported, else raise KeyboardInterrupt.

    Nothing has begun while it imports, and many packages take an exception there for a broken installation.
    """
    if _importing(frame):
        os.write(2, b"error: interrupted\n")
        os._exit(128 + number)
    signal.default_int_handler(number, frame)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    run()
