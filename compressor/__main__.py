"""``python -m compressor``: the same as the command ``compress``, for launchers such as torchrun."""

from compressor.cli.main import run

if __name__ == "__main__":
    run()
