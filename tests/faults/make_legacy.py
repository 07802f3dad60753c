"""Makes ``tests/legacy/VERSION``: a run of this version that was killed, to be gone on with by every later version.

``python tests/faults/make_legacy.py`` before a release; a folder that is there is never made anew.
"""

import json
import re
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from fault_client import ROOT, Server
from fault_runs import Stage, distill, memory_folder, student

from compressor import __version__

LEGACY = ROOT / "tests" / "legacy"
NETWORK = "fault_networks:small"
SAVED = 8


def command() -> list[str]:
    """Return the command line of the run, which every later version must still understand."""
    teacher = {"teacher__name": NETWORK, "teacher_training__epochs": 12, "teacher_training__lr": 0.2}
    return distill(student__name=NETWORK, training__select="best", training__ema_decay=0.9, **teacher)


def make(stage: Stage, target: Path) -> None:
    """Kill a run after its second checkpoint, and keep what it left, with what it would have come to."""
    place, undisturbed = stage.place(bank=False), stage.place(bank=False)
    child = stage.start(command(), place)
    for words in child.talk():
        if words == f"run saved {SAVED}":
            child.signal()
    child.wait()
    assert stage.run(command(), undisturbed).status == 0
    shutil.copytree(place / "run", target / "run")
    shutil.copytree(place / "cache", target / "cache")
    (target / "run" / "run.lock").write_text("")
    for name in ("run.json", "events.jsonl"):  # nobody's machine is kept
        file = target / "run" / name
        text = re.sub(r'"host": "[^"]*"', '"host": "elsewhere"', file.read_text()).replace(str(place), "/home/somebody")
        file.write_text(text)
    about = {"version": __version__, "args": command(), "saved": SAVED, "student_sha256": student(undisturbed)}
    (target / "about.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    folder = LEGACY / __version__
    if folder.exists():
        sys.exit(f"{folder} is there already")
    server = Server()
    with memory_folder() as root:
        make(Stage(server, root), folder)
    server.close()
    print(folder)
