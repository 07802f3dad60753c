"""Run folders as a stranger would make them: names that lead elsewhere, links, pipes, and documents of odd shapes."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compressor.storage import FileEntry, Manifest, sha256_file, write_json
from compressor.storage import manifests as storage_manifests

Plant = Callable[[Path, Path], None]
"""Changes a run's folder; the second argument is the folder that must stay unread."""

PATHS: Mapping[str, Callable[[Path], Any]] = {
    "up": lambda secret: f"../{secret.name}/finished",
    "up and up": lambda secret: f"student/../../{secret.name}/finished/student",
    "absolute": lambda secret: str(secret / "finished" / "student" / "model.safetensors"),
    "URL of a file": lambda secret: f"file://{secret}/finished",
    "UNC": lambda secret: "\\\\host\\share\\model",
    "drive": lambda secret: "C:\\weights\\model.safetensors",
    "backslashes": lambda secret: f"..\\{secret.name}\\finished",
    "home": lambda secret: "~/finished",
    "NUL": lambda secret: "student\0/../x",
    "command": lambda secret: "$(touch hostile_token)`touch hostile_token`;touch hostile_token|sh",
    "escapes": lambda secret: "\x1b]0;x\x07\x1b[2J\x9b31m\u202eevil",
    "empty": lambda secret: "",
    "long": lambda secret: "x/" * 5000,
    "number": lambda secret: 10**30,
    "table": lambda secret: {"a": [1, {"b": None}]},
    "null": lambda secret: None,
}
SPOTS: Mapping[str, tuple[str, ...]] = {
    "run.json": (
        "command",
        "host",
        "began",
        "config",
        "config.seed",
        "config.teacher.name",
        "config.teacher.weights",
        "config.student.init",
        "config.data.source",
        "config.data.directory",
        "config.method.settings",
        "config_sha256",
        "teacher_sha256",
        "environment",
    ),
    "result.json": (
        "run",
        "student",
        "student.folder",
        "student.load",
        "teacher.origin",
        "metrics.top1",
        "cost",
        "method",
    ),
    "student/config.json": (
        "architecture",
        "model_args",
        "pretrained_cfg",
        "pretrained_cfg.file",
        "pretrained_cfg.url",
        "pretrained_cfg.hf_hub_id",
        "pretrained_cfg.source",
        "pretrained_cfg.custom_load",
        "pretrained_cfg.mean",
        "pretrained_cfg.input_size",
        "label_names",
        "num_classes",
        "compress",
        "compress.requires",
        "compress.factory",
    ),
    "student/compress.json": ("files", "schema", "student", "teacher", "data", "loading"),
}


def planted_paths() -> list[tuple[str, Plant]]:
    """Return every hostile value at every place of every document."""
    return [
        (f"{file} {spot} {kind}", _value_planter(file, spot, make))
        for file, spots in SPOTS.items()
        for spot in spots
        for kind, make in PATHS.items()
    ]


def planted_names() -> list[tuple[str, Plant]]:
    """Return hostile names where a document lists files: a publication's record, a checkpoint's manifest."""
    found: list[tuple[str, Plant]] = []
    for kind, make in PATHS.items():
        found.append((f"record lists {kind}", _record_planter(make)))
        found.append((f"manifest lists {kind}", _manifest_planter(make)))
    return found


LINKED = (
    "run.json",
    "result.json",
    "metrics.csv",
    "config.toml",
    "events.jsonl",
    "run.lock",
    "log.txt",
    "test.safetensors",
    "checkpoints",
    "checkpoints/STEP",
    "checkpoints/STEP/manifest.json",
    "checkpoints/STEP/state.json",
    "checkpoints/STEP/lane.safetensors",
    "student",
    "student/config.json",
    "student/model.safetensors",
    "student/compress.json",
    "student/README.md",
    "student/LICENSE-NOTES.md",
)


def planted_links() -> list[tuple[str, Plant]]:
    """Return each file and folder of a run moved to the secret place, with a link in its stead; a loop; a dead link."""
    found: list[tuple[str, Plant]] = []
    for name in LINKED:
        found.append((f"link at {name}", _link_planter(name)))
        found.append((f"loop at {name}", _replacer(name, lambda path: path.symlink_to(path.name))))
    return found


def planted_oddities() -> list[tuple[str, Plant]]:
    """Return a pipe, a folder, an empty and a deeply nested file at each name."""
    kinds: Mapping[str, Callable[[Path], None]] = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "empty file": Path.touch,
        "deep nesting": lambda path: path.write_bytes(b'{"a":' * 50_000) and None,  # type: ignore[func-returns-value]  # a count
        "null": lambda path: path.write_bytes(b"null") and None,  # type: ignore[func-returns-value]  # as above
        "list": lambda path: path.write_bytes(b"[[1], 2]") and None,  # type: ignore[func-returns-value]  # as above
        "huge number": lambda path: path.write_bytes(b'{"seed": ' + b"9" * 4000 + b"}") and None,  # type: ignore[func-returns-value]  # as above
        "no text": lambda path: path.write_bytes(bytes(range(256))) and None,  # type: ignore[func-returns-value]  # as above
    }
    return [(f"{kind} at {name}", _replacer(name, make)) for name in LINKED for kind, make in kinds.items()]


def step_of(run: Path) -> Path:
    """Return the newest checkpoint of a run."""
    return max((run / "checkpoints").glob("step-*"))


def forge(folder: Path, change: Callable[[dict[str, FileEntry]], None]) -> None:
    """Write a checkpoint's manifest anew after a change, with a checksum that is right."""
    old = storage_manifests.read_manifest(folder)
    files = {name: FileEntry(entry.size, entry.sha256) for name, entry in old.files.items()}
    change(files)
    made = Manifest(files, old.format_version, old.config_sha256, old.extra)
    write_json(folder / storage_manifests.MANIFEST, storage_manifests._as_json(made))


def sealed(folder: Path) -> None:
    """Write a checkpoint's manifest anew so that it agrees with the files as they are now."""

    def take(files: dict[str, FileEntry]) -> None:
        for name in files:
            files[name] = FileEntry((folder / name).stat().st_size, sha256_file(folder / name))

    forge(folder, take)


def _value_planter(file: str, spot: str, make: Callable[[Path], Any]) -> Plant:
    def plant(run: Path, secret: Path) -> None:
        value = json.loads((run / file).read_text())
        *way, last = spot.split(".")
        place = value
        for key in way:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[last] = make(secret)
        (run / file).write_text(json.dumps(value))
        if file == "student/config.json":  # the record must agree, or nobody looks further
            record = run / "student" / "compress.json"
            described = json.loads(record.read_text())
            described["files"]["config.json"] = sha256_file(run / file)
            record.write_text(json.dumps(described))

    return plant


def _record_planter(make: Callable[[Path], Any]) -> Plant:
    def plant(run: Path, secret: Path) -> None:
        record = run / "student" / "compress.json"
        described = json.loads(record.read_text())
        described["files"][str(make(secret))] = sha256_file(run / "student" / "config.json")
        record.write_text(json.dumps(described))

    return plant


def _manifest_planter(make: Callable[[Path], Any]) -> Plant:
    def plant(run: Path, secret: Path) -> None:
        entry = FileEntry(1, "0" * 64)
        for step in (run / "checkpoints").glob("step-*"):
            forge(step, lambda files: files.__setitem__(str(make(secret)), entry))

    return plant


def _link_planter(name: str) -> Plant:
    def plant(run: Path, secret: Path) -> None:
        path = _find(run, name)
        target = secret / f"{run.name}-{name.replace('/', '-')}"
        if path.exists():
            shutil.move(path, target)
        else:
            target.write_text("{}")
        path.symlink_to(target)

    return plant


def _replacer(name: str, make: Callable[[Path], None]) -> Plant:
    def plant(run: Path, secret: Path) -> None:
        path = _find(run, name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return plant


def _find(run: Path, name: str) -> Path:
    return run / name.replace("STEP", step_of(run).name)
