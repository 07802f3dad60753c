"""Every reader of a file that may be a stranger's, given anything: an answer that can be used, or bad input by name."""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from figures import SEED, count, note
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from compressor.cli.show import lines_of
from compressor.config.layers import Layer, read_file, resolve
from compressor.engine.history import read_run
from compressor.errors import InputError, UsageError
from compressor.models.folders import read_folder
from compressor.storage import (
    FileEntry,
    Manifest,
    read_json,
    read_lines,
    read_manifest,
    read_tensor_metadata,
    read_tensors,
    write_folder,
    write_json,
    write_tensors,
)
from compressor.storage.manifests import _as_json

OFTEN = settings(
    max_examples=count(60, 1500),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def noted(test: Callable[..., None]) -> Callable[..., None]:
    """Write down how many inputs a test has tried, when it has passed."""

    @functools.wraps(test)
    def wrapped(*given: Any, **named: Any) -> None:
        test(*given, **named)
        note("F1", tried=OFTEN.max_examples)

    return wrapped


def changed(sound: Any, data: st.DataObject) -> Any:
    """Return a copy of a document with one to three places changed to anything, or taken away."""
    made = copy.deepcopy(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        place = made
        while True:
            if not isinstance(place, dict) or not place:
                break
            key = data.draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            if data.draw(st.integers(0, 4)) == 0:
                del place[key]
            else:
                place[key] = data.draw(values)
            break
    return made


def refuses_or(read: Callable[[], Any], path: Path) -> Any:
    """Return what was read, or None where it was refused in one line that names the file."""
    try:
        return read()
    except (InputError, UsageError) as refused:
        message = refused.message
    assert path.name in message
    assert "\n" not in message
    return None


@noted
@seed(SEED)
@OFTEN
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_json_of_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.json"
    path.write_bytes(data)
    value = refuses_or(lambda: read_json(path), path)
    if value is not None:
        write_json(path, value)
        assert read_json(path) == value


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A folder with a manifest."""
    write_folder(tmp_path / "step", lambda folder: write_json(folder / "a.json", [1]), extra={"threads": 1})
    return tmp_path / "step"


@noted
@seed(SEED)
@OFTEN
@given(st.data())
def test_manifest_that_is_anything_or_was_changed(committed: Path, data: st.DataObject) -> None:
    sound = json.loads((committed / "manifest.json").read_text())
    made = data.draw(values) if data.draw(st.booleans()) else changed(sound, data)
    (committed / "manifest.json").write_text(json.dumps(made))
    manifest = refuses_or(lambda: read_manifest(committed), committed)
    assert manifest is None or made == sound
    (committed / "manifest.json").write_text(json.dumps(sound))


@noted
@seed(SEED)
@OFTEN
@given(st.dictionaries(st.text(max_size=10), st.tuples(st.integers(), st.text(max_size=70))), values)
def test_manifest_with_a_checksum_that_is_right(committed: Path, files: Any, extra: Any) -> None:
    entries = {name: FileEntry(size, digest) for name, (size, digest) in files.items()}
    sound = (committed / "manifest.json").read_text()
    forged = _as_json(Manifest(entries, 1, None, {"x": extra}))
    (committed / "manifest.json").write_text(json.dumps(forged))
    manifest = refuses_or(lambda: read_manifest(committed), committed)
    assert manifest is None or dict(manifest.files) == entries
    (committed / "manifest.json").write_text(sound)


RUN: dict[str, Any] = {
    "command": "compress distill",
    "config": {
        "seed": 0,
        "teacher": {"name": "resnet14"},
        "student": {"name": "resnet8"},
        "data": {"source": "digits"},
        "method": {"name": "kd", "settings": {}},
        "training": {"epochs": 2, "batch_size": 50, "select": "last"},
    },
    "config_sha256": "0" * 64,
    "began": "2026-01-01T00:00:00Z",
    "host": "here",
}
_NETWORK = {"name": "resnet8", "parameters": 10, "macs": 10, "latency_ms": {"median": 1.0, "threads": 1, "runs": 2}}
RESULT: dict[str, Any] = {
    "method": "kd",
    "seed": 0,
    "student": {"folder": "run/student", **_NETWORK},
    "teacher": _NETWORK,
    "metrics": {"top1": 50.0, "teacher_top1": 60.0, "agreement": 70.0, "ece": 0.1},
    "cost": {"train_seconds": 1.0, "views": 1, "peak_bytes": 1000},
    "config_sha256": "0" * 64,
}
METRICS = """phase,epoch,train_loss,eval_loss,eval_top1,eval_top5,lr,seconds
student,1,1.0,,10,50,0.1,1
student,2,1,,20,60,0.1,1
"""


@noted
@seed(SEED)
@OFTEN
@given(st.data())
def test_documents_of_a_run_that_are_anything_or_were_changed(tmp_path: Path, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(["run.json", "result.json", "metrics.csv"]))
    for name, sound in (("run.json", RUN), ("result.json", RESULT)):
        made = sound if name != victim else data.draw(values) if data.draw(st.booleans()) else changed(sound, data)
        (tmp_path / name).write_text(json.dumps(made))
    text = (
        data.draw(st.text(max_size=100))
        if data.draw(st.booleans())
        else METRICS.replace("20", data.draw(st.text(max_size=5)))
    )
    (tmp_path / "metrics.csv").write_text(text if victim == "metrics.csv" else METRICS, errors="replace")
    status = refuses_or(lambda: read_run(tmp_path), tmp_path / victim)
    if status is not None:
        assert lines_of(status)[0] == f"Run      {tmp_path}"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1_0", "9" * 400])
def test_odd_numbers_in_the_metrics_are_no_bug(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "metrics.csv").write_text(METRICS.replace("20", text))
    assert lines_of(read_run(tmp_path))[1] == "State    stopped"


def test_the_sound_documents_are_sound(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    (tmp_path / "metrics.csv").write_text(METRICS)
    assert "val top-1, 2 points" in lines_of(read_run(tmp_path))


CONFIG: dict[str, Any] = {
    "architecture": "resnet8",
    "num_classes": 3,
    "label_names": ["a", "b", "c"],
    "model_args": {},
    "pretrained_cfg": {"input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "compress": {"requires": []},
}


@noted
@seed(SEED)
@OFTEN
@given(st.data())
def test_description_of_a_student_that_is_anything_or_was_changed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data.draw(values) if data.draw(st.booleans()) else changed(CONFIG, data)))
    saved = refuses_or(lambda: read_folder(tmp_path), path)
    if saved is not None and saved.mean is not None:
        assert all(isinstance(number, float) for number in (*saved.mean, *saved.std))


@pytest.fixture
def tensors(tmp_path: Path) -> bytes:
    """The bytes of a small file of tensors."""
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(2, 3), "b": torch.arange(4)}, {"told": "something"})
    return (tmp_path / "a.safetensors").read_bytes()


@noted
@seed(SEED)
@OFTEN
@given(st.data())
def test_tensors_behind_any_header(tmp_path: Path, tensors: bytes, data: st.DataObject) -> None:
    length = int.from_bytes(tensors[:8], "little")
    sound = json.loads(tensors[8 : 8 + length])
    made = json.dumps(data.draw(values) if data.draw(st.integers(0, 3)) == 0 else changed(sound, data)).encode()
    claimed = data.draw(st.sampled_from([len(made), len(made) + 1, 0, 7, 2**63]) | st.integers(0, 2**64 - 1))
    size = len(made) if data.draw(st.booleans()) else claimed
    body = tensors[8 + length :] + data.draw(st.sampled_from([b"", b"\0", b"x" * 100]))
    path = tmp_path / "b.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + made + body)
    read = refuses_or(lambda: read_tensors(path), path)
    if read is not None:
        assert sum(value.numel() * value.element_size() for value in read.values()) <= len(tensors) + 100
    told = refuses_or(lambda: read_tensor_metadata(path), path)
    assert told is None or all(isinstance(value, str) for value in told.values())


@noted
@seed(SEED)
@OFTEN
@given(st.binary(max_size=300))
def test_tensors_and_lines_of_any_bytes(tmp_path: Path, data: bytes) -> None:
    for name, read in (("x.safetensors", read_tensors), ("events.jsonl", read_lines)):
        path = tmp_path / name
        path.write_bytes(data)
        found = refuses_or(lambda read=read, path=path: read(path), path)  # type: ignore[misc]  # mypy cannot type the defaults
        assert found is None or len(found) <= len(data)


words = st.sampled_from(
    [
        "seed",
        "training",
        "method",
        "data",
        ".",
        "epochs",
        "lr",
        " = ",
        "1",
        "-1",
        "1e9",
        "[",
        "]",
        "{",
        "}",
        "\n",
        '"',
        "'",
        "#",
        "nan",
        "true",
        ",",
    ]
)


@noted
@seed(SEED)
@OFTEN
@given(st.lists(words, max_size=25).map("".join))
def test_config_of_any_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    layer = refuses_or(lambda: read_file(path), path)
    if layer is not None:
        assert isinstance(layer, Layer)
        refuses_or(lambda: resolve([layer]).config.sha256, path)
