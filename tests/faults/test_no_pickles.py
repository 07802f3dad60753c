"""Rule R4: nothing of ours writes a pickle, and nothing reads one but through the weights-only reader."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "torch.save",
    "torch.jit.load",
    "torch.jit.save",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.package.PackageImporter",
    "pickle.dump",
    "pickle.dumps",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "pickle.Pickler",
    "dill.loads",
    "joblib.load",
    "joblib.dump",
    "marshal.loads",
    "shelve.open",
    "numpy.save",
    "pandas.read_pickle",
    "timm.models.load_checkpoint",
    "timm.models.save_for_hf",
    "timm.models.push_to_hf_hub",
}
METHODS = {"save_state", "load_state", "save_model", "register_for_checkpointing", "save_for_hf", "push_to_hf_hub"}
ALLOWED = {("compressor/data/sources/cifar.py", "pickle.loads")}
"""CIFAR is distributed as pickles; they are opened when their checksums are the published ones, and not otherwise."""


def sources() -> list[Path]:
    """List the modules of all three packages."""
    return [path for folder in ("compressor", "plugins", "zoo") for path in sorted((ROOT / folder).rglob("*.py"))]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Give every call of a module with the full name of what is called, as far as the module's imports tell it."""
    tree = ast.parse(path.read_text("utf-8"))
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                (name.asname or name.name).partition(".")[0]: (
                    name.name if name.asname else name.name.partition(".")[0]
                )
                for name in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = ast.unparse(node.func).split(".")
            yield ".".join([known.get(words[0], words[0]), *words[1:]]), node


def keyword(call: ast.Call, name: str) -> str | None:
    """Return the text of a keyword argument, None where it is not given."""
    return next((ast.unparse(item.value) for item in call.keywords if item.arg == name), None)


def faults(path: Path) -> list[str]:
    """List what a module does with pickles."""
    name = path.relative_to(ROOT).as_posix()
    found = []
    for called, call in calls(path):
        if (called in FORBIDDEN or called.rpartition(".")[2] in METHODS) and (name, called) not in ALLOWED:
            found.append(f"{name}:{call.lineno} {called}")
        if called == "torch.load" and keyword(call, "weights_only") != "True":
            found.append(f"{name}:{call.lineno} torch.load without weights_only=True")
        if called == "numpy.load" and keyword(call, "allow_pickle") != "False":
            found.append(f"{name}:{call.lineno} numpy.load without allow_pickle=False")
    return found


def test_no_source_writes_or_reads_a_pickle() -> None:
    every = sources()
    assert len(every) > 100
    assert [fault for path in every for fault in faults(path)] == []


def test_the_places_that_are_allowed_exist_and_no_more() -> None:
    used = {(path.relative_to(ROOT).as_posix(), called) for path in sources() for called, _ in calls(path)}
    assert used >= ALLOWED
    assert len(ALLOWED) == 1
    loads = {name for name, called in used if called == "torch.load"}
    assert loads == {"compressor/weights.py"}


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    planted = """
import torch, pickle
import numpy as np
from torch import save as keep
from pickle import loads
torch.load(path)
torch.load(path, weights_only=False)
np.load(path, allow_pickle=True)
keep(x, path)
loads(data)
accelerator.save_state(folder)
accelerator.load_state(folder)
"""
    file = ROOT / "compressor" / "_planted.py"
    lines = [line for line in planted.splitlines() if "(" in line]
    path = tmp_path / "planted.py"
    path.write_text(planted)
    found = [called for called, call in calls(path)]
    assert len(found) == len(lines)
    assert {"torch.load", "numpy.load", "torch.save", "pickle.loads", "accelerator.save_state"} <= set(found)
    assert not file.exists()


def test_no_run_folder_holds_a_pickle_by_name_or_content(stage: object) -> None:
    from fault_runs import Stage, distill
    from hostile_doors import QUICK

    assert isinstance(stage, Stage)
    place = stage.place()
    assert stage.run(distill("sskd", out="run", **QUICK), place).status == 0
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "tiny.npz"]
    assert len(files) > 10
    assert [path for path in files if path.suffix in (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy")] == []
    assert [
        path for path in files if path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    ] == []
