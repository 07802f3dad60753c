"""Row C3: any name that the system can have works, or is refused in one line; no shell is ever called."""

import shutil
import unicodedata
from pathlib import Path
from typing import Any

from bad_data import image_folder
from fault_runs import DATA, Stage, distill
from figures import count
from hostile_doors import QUICK, Arguments, ask, check, report

GOOD = (
    "a folder of my own",
    "größe 大きい ширина",
    "🙂 emoji",
    unicodedata.normalize("NFC", "é-composed"),
    unicodedata.normalize("NFD", "é-decomposed"),
    "#1?x=2@home&b;c",
    "quote'\"double",
    "$(touch hostile_token)",
    "`touch hostile_token`",
    "%20%s{0}",
    "CON",
    "a.b.c",
    "x" * 200,
    "-leading",
    "[brackets]*",
    "right\u202eto left",
    "tab\tline\nend",
)
BAD = (
    "x" * 300,
    "\0",
    "a\0b",
    "/proc/self/nothing/x",
    "/dev/null/x",
    DATA,
    f"{DATA}/x",
    "nowhere/../../../../../../dev/null",
)
HOSTILE = (
    *("../x", "/etc/passwd", "", " ", ".", "..", "-x", "a b", "x\ny", "x\0y"),
    *("\x1b[2J", "\u202e", "🙂", "x" * 5000, "é", "#", "?", "@"),
)


def run_on(data: str, out: str, **changes: Any) -> Arguments:
    """Return a run without a teacher on data that are named by the option itself."""
    plain = distill("scratch", out=out, **QUICK, **changes)
    number = plain.index(f"data.source={DATA}")
    return [*plain[: number - 1], *plain[number + 1 :], f"--data={data}"]


def test_every_name_that_a_file_can_have_works_everywhere(stage: Stage) -> None:
    place = stage.place()
    cases = []
    for number, name in enumerate(GOOD[:: count(4, 1)]):
        folder = place / f"place{number}" / name
        folder.mkdir(parents=True)
        own, short = f"./{folder.relative_to(place)}", name[:100]
        run, data = f"{own}/{name}", f"{own}/{short}.npz"
        shutil.copy(place / DATA, place / data)
        image_folder(folder / "images", {f"{short} {side}": 4 for side in ("one", "other")})
        lines = {
            "run": run_on(data, run),
            "show": ["show", run],
            "eval": ["eval", run, "--data", data],
            "publish": ["publish", run, "--to", f"{own}/published {short}"],
            "convert": ["convert", f"{run}/student/model.safetensors", f"{own}/{short}.safetensors"],
            "weights": ["eval", "resnet8", "--data", DATA, "--weights", f"{own}/{short}.safetensors"],
            "images": run_on(f"{own}/images", f"{run}2", training__batch_size=2, data__val_split=0),
        }
        cases += [{"label": f"{what} {name}", "arguments": arguments} for what, arguments in lines.items()]
    answers = ask(stage, place, cases, warm=[distill("scratch", out="warm", **QUICK)])
    report("C3", answers)
    check(answers, exits=(0,))
    assert not list(place.glob("**/hostile_token"))


def test_names_that_cannot_be_are_refused_in_one_line(stage: Stage) -> None:
    place = stage.place()
    doors = {
        "--out": lambda name: distill("scratch", out=name, **QUICK),
        "--data": lambda name: ["distill", "-m", "scratch", "--data", name],
        "--config": lambda name: ["distill", "--config", name],
        "publish --to": lambda name: ["publish", "nothing", "--to", name],
        "show": lambda name: ["show", name],
        "convert": lambda name: ["convert", name, f"{name}.safetensors"],
        "--teacher-weights": lambda name: distill("kd", out="out", teacher__weights=name, **QUICK),
    }
    cases = [
        {"label": f"{door} {name[:20]!r}", "arguments": make(name), "remove": ["out"]}
        for door, make in doors.items()
        for name in BAD
        if not (door == "--data" and name == DATA)
    ]
    answers = ask(stage, place, cases, watched=False)
    report("C3", answers)
    check(answers, exits=(2, 3, 4))


def test_hostile_identifiers_are_unknown_names(stage: Stage) -> None:
    place = stage.place()
    doors = {
        "--method": lambda name: ["distill", f"--method={name}"],
        "--teacher": lambda name: ["distill", f"--teacher={name}"],
        "--student": lambda name: ["distill", f"--student={name}"],
        "--recipe": lambda name: ["distill", f"--recipe={name}"],
        "--data": lambda name: ["distill", "-m", "scratch", f"--data={name}"],
        "--methods": lambda name: ["compare", f"--methods={name}"],
        "--baseline": lambda name: ["compare", "--methods=kd", f"--baseline={name}"],
        "--device": lambda name: ["distill", "-m", "scratch", f"--device={name}"],
        "--push": lambda name: ["publish", "nothing", f"--push={name}", "--yes"],
        "--optimizer": lambda name: distill("scratch", out="out", training__optimizer=name or "''", **QUICK),
        "command": lambda name: [name or "''"],
    }
    every = [(door, make, name) for door, make in doors.items() for name in HOSTILE]
    cases = [
        {"label": f"{door} {name[:20]!r}", "arguments": make(name), "remove": ["out", "runs"]}
        for door, make, name in every[:: count(3, 1)]
        if not (door == "--data" and name in (".", ".."))
    ]
    answers = ask(stage, place, cases, warm=[distill("scratch", out="warm", **QUICK)])
    report("C3", answers)
    check(answers, exits=(2, 3))
    assert not any("\x1b" in answer.said for answer in answers)


def test_no_source_calls_a_shell() -> None:
    root = Path(__file__).parents[2]
    files = [path for folder in ("compressor", "plugins", "zoo") for path in (root / folder).rglob("*.py")]
    assert len(files) > 100
    words = ("os.system", "os.popen", "shell=True", "getoutput(", "pty.spawn", "os.exec")
    assert [f"{path.name}: {word}" for path in files for word in words if word in path.read_text("utf-8")] == []
