"""``compress doctor``: what this machine has and what is broken."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import typer

from compressor.cli.command import Ask, command
from compressor.cli.wording import size

EXAMPLES = ("compress doctor", "compress doctor --json")
_PACKAGES = [
    "torch",
    "timm",
    "torchvision",
    "accelerate",
    "safetensors",
    "numpy",
    "pillow",
    "scikit-learn",
    "scipy",
    "pydantic",
    "typer",
    "rich",
    "huggingface_hub",
    "datasets",
    "onnx",
    "onnxruntime",
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", examples=EXAMPLES)(doctor)


def doctor(ask: Ask) -> None:
    """Show versions, devices, threads, folders, disk space, and plugins that are broken."""
    facts = collect()
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, **facts})
    else:
        ask.output.result("\n".join(_lines(facts)))


def collect() -> dict[str, Any]:
    """Return everything as plain values; imports torch and every method."""
    from compressor.cache import cache_folder, user_config_file
    from compressor.cli.process import physical_cores
    from compressor.cli.versions import versions

    home = Path.home()
    folders = {
        "cache": cache_folder(),
        "user config": user_config_file(),
        "hub": Path(os.environ.get("HF_HOME") or home / ".cache" / "huggingface"),
        "torch hub": Path(os.environ.get("TORCH_HOME") or home / ".cache" / "torch"),
        "working folder": Path.cwd(),
    }
    return {
        "versions": versions(*_PACKAGES),
        "machine": f"{platform.system()} {platform.machine()}",
        "devices": _devices(),
        "cores": {"physical": physical_cores(), "logical": os.cpu_count() or 1},
        "folders": {name: _folder(path) for name, path in folders.items()},
        "answers": _answers(),
        "offline": os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"),
        "broken": _broken(),
    }


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def _folder(path: Path) -> dict[str, Any]:
    there = path
    while not there.exists():
        there = there.parent
    return {
        "path": str(path),
        "exists": path.exists(),
        "writable": os.access(there, os.W_OK),
        "free_bytes": shutil.disk_usage(there).free,
    }


def _answers() -> dict[str, Any]:
    from compressor.engine.replay import answers_folder, kept_bytes

    return {"path": str(answers_folder()), "bytes": kept_bytes(answers_folder())}


def _broken() -> dict[str, str]:
    from compressor.errors import CompressorError
    from compressor.registry import METHODS, load_method, names

    found: dict[str, str] = {}
    for name in names(METHODS):
        try:
            load_method(name)
        except CompressorError as error:
            found[name] = error.message
    return found


def _lines(facts: dict[str, Any]) -> list[str]:
    cores = facts["cores"]
    lines = [f"{name:16} {number}" for name, number in facts["versions"].items()]
    lines += ["", f"{'machine':16} {facts['machine']}", f"{'devices':16} {', '.join(facts['devices'])}"]
    lines.append(f"{'cores':16} {cores['physical']} physical, {cores['logical']} logical")
    lines.append(f"{'offline':16} {'yes' if facts['offline'] else 'no'}")
    lines.append("")
    for name, folder in facts["folders"].items():
        state = "" if folder["exists"] else ", not made yet"
        state += "" if folder["writable"] else ", NOT WRITABLE"
        lines.append(f"{name:16} {folder['path']}   ({size(folder['free_bytes'])} free{state})")
    kept = facts["answers"]
    lines.append(f"{'kept answers':16} {kept['path']}   ({size(kept['bytes'])}; rm -r it at any time)")
    lines += ["", *(f"broken method    {name}: {why}" for name, why in facts["broken"].items())]
    return lines if facts["broken"] else [*lines, "methods          all can be imported"]
