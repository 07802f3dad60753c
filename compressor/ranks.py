"""Which of a run's processes this one is; importing it imports nothing heavy."""

import os


def is_main_process() -> bool:
    """Say whether this is the process that writes files and speaks, also before or after anything was trained."""
    return os.environ.get("RANK", "0") == "0"
