"""Foreign weights: nothing runs, nothing is guessed, nothing is half loaded."""

import argparse
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from compressor import storage, weights
from compressor.errors import InputError, UsageError


def network(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return OrderedDict((prefix + name, value) for name, value in state.items())


def same(left: Any, right: Any) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


HEAD = {"proj_head.0.weight": torch.ones(2, 2), "proj_head.2.bias": torch.zeros(2)}
STATE = network().state_dict()
LAYOUTS: dict[str, tuple[dict[str, Any], bool]] = {  # what the file holds, and whether a head stands beside the network
    "plain": (STATE, False),
    "RepDistiller": ({"epoch": 240, "model": STATE, "best_acc": torch.tensor(79.4), "optimizer": {"state": {}}}, False),
    "SSKD student": ({"epoch": 240, "state_dict": prefixed("backbone.", STATE) | HEAD, "acc": 73.0}, True),
    "parallel": ({"state_dict": prefixed("module.", STATE)}, False),
    "parallel SSKD": ({"model": prefixed("module.", prefixed("backbone.", STATE) | HEAD)}, True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", ["pth", "pt", "bin", "pth.tar"])
def test_every_known_layout_gives_the_weights_of_the_network(tmp_path: Path, layout: str, ending: str):
    content, headed = LAYOUTS[layout]
    torch.save(content, tmp_path / f"w.{ending}")
    read = weights.read_weights(tmp_path / f"w.{ending}")
    assert same(read.tensors, STATE)
    assert same(read.extras, HEAD if headed else {})


def test_the_format_before_torch_1_6_is_read(tmp_path: Path):
    torch.save({"model": STATE}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(weights.read_weights(tmp_path / "w.pth").tensors, STATE)


def test_safetensors_are_read_and_a_backbone_of_the_module_itself_stays(tmp_path: Path):
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network()

    safetensors.torch.save_file(Wrapped().state_dict(), tmp_path / "w.safetensors")
    assert same(weights.read_weights(tmp_path / "w.safetensors").tensors, STATE)
    module = Wrapped()
    nn.init.zeros_(module.backbone[3].weight)
    weights.load_weights(module, tmp_path / "w.safetensors")
    assert same(module.backbone.state_dict(), STATE)


class Runs:
    """Pickles to a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def evil(function: str, mark: Path) -> bytes:
    """Return a hand-written protocol-0 pickle that calls ``function`` (``module name``) with one string."""
    arguments = {"builtins open": f"V{mark}\nVw\n"}.get(function, f"Vtouch {mark}\n")
    if function in ("builtins eval", "builtins exec"):
        arguments = f"Vopen({str(mark)!r}, 'w')\n"
    return f"c{function}\n({arguments}tR.".encode()


CALLS = [
    "posix system",
    "os system",
    "os popen",
    "nt system",
    "subprocess getoutput",
    "subprocess check_output",
    "builtins eval",
    "builtins exec",
    "builtins open",
    "builtins __import__",
    "builtins getattr",
    "importlib import_module",
    "pkgutil resolve_name",
    "runpy run_path",
    "operator attrgetter",
    "functools partial",
    "marshal loads",
    "pty spawn",
    "shutil rmtree",
    "pathlib Path.touch",
    "torch load",
    "torch.hub load",
    "torch._dynamo.guards GuardBuilder.get",
    "numpy.testing._private.utils runstring",
    "timeit timeit",
    "code interact",
    "ctypes CDLL",
    "webbrowser open",
    "_io FileIO",
    "compressor.storage write_text",
]


@pytest.mark.parametrize("ending", ["pth", "bin", "tar", "safetensors"])
@pytest.mark.parametrize("function", CALLS)
def test_no_pickle_that_calls_a_function_runs_or_loads(tmp_path: Path, function: str, ending: str):
    mark = tmp_path / "executed"
    path = tmp_path / f"x.{ending}"
    path.write_bytes(evil(function, mark))
    with pytest.raises(InputError) as caught:
        weights.read_weights(path)
    assert not mark.exists()
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    if ending != "safetensors":
        assert f"{path} holds more than weights" in caught.value.message


def test_a_call_is_named_with_a_hint(tmp_path: Path):
    torch.save({"model": STATE, "args": Runs(os.system, f"touch {tmp_path}/executed")}, tmp_path / "teacher.pth")
    with pytest.raises(InputError) as caught:
        weights.read_weights(tmp_path / "teacher.pth")
    assert caught.value.message == f"{tmp_path}/teacher.pth holds more than weights (posix.system); refused"
    assert caught.value.hint == "ask for a .safetensors file; such a file can run code when loaded"
    assert caught.value.exit_code == 3
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [argparse.Namespace(a=1), nn.Linear(2, 2), {"model": STATE, "run": Runs(exec, "raise SystemExit")}],
    ids=["settings", "module", "call"],
)
@pytest.mark.parametrize("new", [True, False])
def test_objects_beside_weights_are_refused(tmp_path: Path, content: Any, new: bool):
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match="holds more than weights"):
        weights.read_weights(tmp_path / "x.pt")


def nested_zip() -> bytes:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs(os.system, "false"), 2))
        archive.writestr("archive/version", "3")
    return inner.getvalue()


def legacy_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(Runs(os.system, "false"), 2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello world",
        b"\x80",
        bytes(1000),
        nested_zip(),
        legacy_tar(),
        b"PK\x03\x04" + nested_zip(),
        pickle.dumps(Runs(os.system, "false"), 4),
        pickle.dumps(Runs(os.system, "false"), 5),
        pickle.dumps({"a": 1}, 2),
        pickle.dumps([1, 2], 2),
        b"<html>Sign in to download</html>",
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
@pytest.mark.parametrize("ending", ["pth", "tar", "safetensors"])
def test_files_that_are_something_else_are_bad_input_in_one_line(tmp_path: Path, data: bytes, ending: str):
    (tmp_path / f"x.{ending}").write_bytes(data)
    with pytest.raises(InputError) as caught:
        weights.read_weights(tmp_path / f"x.{ending}")
    assert "\n" not in caught.value.message
    assert f"x.{ending}" in caught.value.message


def test_a_cut_file_is_bad_input_at_any_length(tmp_path: Path):
    torch.save(STATE, tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    for length in range(0, len(data), 97):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"cut\.pth"):
            weights.read_weights(tmp_path / "cut.pth")


def test_an_unknown_ending_or_an_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"known endings: \.safetensors \.pt"):
        weights.read_weights(tmp_path / "x.pkl")
    with pytest.raises(InputError, match="does not exist"):
        weights.read_weights(tmp_path / "none.pth")
    torch.save(STATE, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    with pytest.raises(InputError, match=r"needs torch >= 2\.10 \(this is 2\.9\.1\)"):
        weights.read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, dtype: torch.dtype):
    torch.save({"a": torch.ones(3), "b.weight": torch.tensor([1.0, value]).to(dtype)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth cannot be used: b\.weight has values that are NaN or infinite"):
        weights.read_weights(tmp_path / "x.pth")


def test_tensors_that_are_not_plain_or_larger_than_the_file_are_refused(tmp_path: Path):
    torch.save({"a": torch.ones(1).expand(10**12)}, tmp_path / "x.pth")  # a file of one kilobyte
    with pytest.raises(InputError, match=r"a claims \(1000000000000,\) values"):
        weights.read_weights(tmp_path / "x.pth")
    torch.save({"a": torch.eye(2).to_sparse()}, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"y\.pth"):
        weights.read_weights(tmp_path / "y.pth")


def test_loading_gives_the_same_outputs(tmp_path: Path):
    source, target = network().eval(), network().eval()
    nn.init.normal_(target[3].weight)
    images = torch.randn(2, 3, 3, 3)
    assert not torch.equal(source(images), target(images))
    torch.save({"model": source.half().state_dict()}, tmp_path / "half.pth")
    weights.load_weights(target, tmp_path / "half.pth")
    assert target[3].weight.dtype == torch.float32
    assert torch.equal(target(images), source.float()(images))


def without(state: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (without(STATE, "0.bias", "3.bias"), r"2 missing \(first: 0\.bias\)$"),
        ({**STATE, "fc.weight": torch.ones(1)}, r"1 unexpected \(first: fc\.weight\)$"),
        (network(7).state_dict(), r"2 of another shape or type \(first: 3\.weight \(7, 4\) instead of \(5, 4\)\)$"),
        ({**STATE, "3.bias": torch.ones(5, dtype=torch.int64)}, r"3\.bias torch\.int64 instead of torch\.float32"),
        ({**without(STATE, "3.bias"), "x": torch.ones(1)}, r"1 missing \(first: 3\.bias\), 1 unexpected \(first: x\)$"),
    ],
)
def test_what_does_not_fit_is_counted_named_and_changes_nothing(tensors: dict[str, torch.Tensor], words: str):
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match="t.pth does not fit Sequential: .*" + words):
        weights.load_into(module, {name: value + 1 for name, value in tensors.items()}, source="t.pth")
    assert same(module.state_dict(), before)


def test_a_missing_counter_of_batch_norm_keeps_its_value():
    module = network()
    weights.load_into(module, without(STATE, "1.num_batches_tracked"), source="old.pth")
    assert module[1].num_batches_tracked.item() == 0


def test_a_module_can_name_the_keys_of_foreign_files():
    module = nn.Module()
    module.fc = nn.Linear(2, 3)
    module.checkpoint_aliases = {"classifier.weight": "fc.weight", "classifier.bias": "fc.bias"}
    weights.load_into(module, {"classifier.weight": torch.ones(3, 2), "classifier.bias": torch.ones(3)}, source="x")
    assert module.fc.weight.sum().item() == 6
    weights.load_into(module, {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.ones(3)}, source="x")
    assert module.fc.weight.sum().item() == 0
    both = {name: torch.ones(3, 2) for name in ("fc.weight", "classifier.weight")}
    with pytest.raises(InputError, match="unexpected"):
        weights.load_into(module, {**both, "fc.bias": torch.ones(3)}, source="x")


def test_convert_keeps_every_tensor_under_its_name(tmp_path: Path):
    torch.save(LAYOUTS["parallel SSKD"][0], tmp_path / "in.pth")
    count = weights.convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    expected = {**prefixed("backbone.", STATE), **HEAD}
    assert count == len(expected)
    assert same(safetensors.torch.load_file(tmp_path / "out.safetensors"), expected)
    assert same(weights.read_weights(tmp_path / "out.safetensors").extras, HEAD)
    with pytest.raises(UsageError, match="already there"):
        weights.convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="must end in"):
        weights.convert(tmp_path / "in.pth", tmp_path / "out.pth")


def test_the_hash_of_a_state_equals_one_worked_by_hand_and_sees_every_change():
    expected = hashlib.sha256()
    for label, data in [('["a", "torch.uint8", [2]]', b"\x01\x02"), ('["b", "torch.float32", []]', b"\0\0\x80?")]:
        expected.update(f"{len(label)}:{label}".encode() + data)
    state = {"b": torch.tensor(1.0), "a": torch.tensor([1, 2], dtype=torch.uint8)}
    assert weights.state_sha256(state) == expected.hexdigest()
    assert weights.state_sha256(dict(reversed(state.items()))) == expected.hexdigest()
    others = [
        {**state, "b": torch.tensor(1.0000001)},
        {**state, "b": torch.tensor([1.0])},
        {**state, "b": torch.tensor(1.0, dtype=torch.float64)},
        {"c": state["b"], "a": state["a"]},
        {"a": state["a"]},
    ]
    assert len({weights.state_sha256(other) for other in [state, *others]}) == 6
    turned = torch.arange(6.0).reshape(2, 3).T
    assert weights.state_sha256({"x": turned}) == weights.state_sha256({"x": turned.contiguous()})


def test_what_storage_wrote_is_read_back(tmp_path: Path):
    storage.write_tensors(tmp_path / "w.safetensors", STATE)
    assert same(weights.read_weights(tmp_path / "w.safetensors").tensors, STATE)
