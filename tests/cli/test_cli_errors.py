"""What goes wrong is told in two lines with an exit code, the same in text and JSON, and no traceback."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from compressor.cli import distill as distill_command
from compressor.cli.faults import fault_of, kept
from compressor.errors import (
    GateError,
    InputError,
    Stopped,
    StorageError,
    TrainingError,
    UsageError,
)

CASES = [
    ("distil", "no command 'distil'", "did you mean distill"),
    ("distill --epoch 3", "compress distill has no option '--epoch'", "did you mean --epochs"),
    ("distill --epochs ten", "--epochs must be a whole number, got 'ten'", None),
    ("distill --set nonsense", "--set 'nonsense' is not KEY=VALUE", "for example --set"),
    ("distill --set training.lrr=1", "--set: unknown setting 'training.lrr'", "did you mean training.lr"),
    ("distill -m kdd", "no method named 'kdd'", "did you mean kd"),
    ("distill -s resnet81", "no student model 'resnet81'", "did you mean resnet"),
    ("distill -t vgg13", "teacher 'vgg13' is ambiguous: it may mean cifar_vgg13 or timm/vgg13", "write one of them"),
    ("distill --recipe sskd-cifar10", "no recipe named 'sskd-cifar10'", "did you mean sskd-cifar100"),
    ("distill --config none.toml", "cannot read the config file none.toml: No such file or directory", None),
    ("distill --lr 0.1 --set training.lr=0.2", "training.lr is given twice", "leave one of them out"),
    ("compare --methods kd,kdd", "no method named 'kdd'", "did you mean kd"),
    ("compare --methods kd,,crd", "--methods 'kd,,crd' has an empty name in it", "compress list methods"),
    ("compare --pairs resnet32x4", "--pairs 'resnet32x4' is not TEACHER:STUDENT", "resnet32x4:resnet8x4"),
    ("compare --pairs resnet32x4:resnet81", "no student model 'resnet81'", "did you mean resnet"),
    ("compare --seeds three", "invalid value for '--seeds'", "compress compare --help"),
    ("publish", "missing argument 'RUN'", "compress publish --help"),
    ("list nix", "invalid value for 'KIND': 'nix' is not one of 'methods'", "compress list --help"),
    ("list data --color pink", "invalid value for '--color': 'pink' is not one of", "compress list --help"),
    ("plugins check kdd", "no method named 'kdd'", "did you mean kd"),
    ("publish runs/x --push me/it", "--push me/it uploads; nobody is here to confirm it", "add --yes"),
]


@pytest.mark.parametrize(("line", "message", "hint"), CASES, ids=[case[0] for case in CASES])
def test_a_usage_error_is_two_lines_and_exit_code_2(
    line: str, message: str, hint: str | None, compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = compress(*line.split())
    assert said.code == 2
    assert said.out == ""
    first, *others = said.err.splitlines()
    assert first.startswith(f"error: {message}")
    assert len(others) <= 1
    if hint is not None:
        assert others[0].startswith(f"hint:  {hint}") or hint in others[0]
    document = json.loads(compress("--json", *line.split()).out)
    assert set(document) == {"schema", "status", "code", "message", "hint", "exit"}
    assert (document["status"], document["exit"]) == ("error", 2)
    assert f"error: {document['message']}" == first


@pytest.mark.parametrize(
    ("error", "code", "word", "status"),
    [
        (UsageError("m", hint="h"), 2, "usage", "error"),
        (InputError("m", hint="h", code="data.bad_images"), 3, "data.bad_images", "error"),
        (StorageError("m", hint="h"), 4, "storage", "error"),
        (TrainingError("m", hint="h"), 5, "training", "error"),
        (GateError("m", hint="h"), 6, "gate", "error"),
        (Stopped("m", hint="h"), 130, "stopped", "stopped"),
        (Stopped("m", exit_code=143, hint="h"), 143, "stopped", "stopped"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: Exception, code: int, word: str, status: str, compress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(monkeypatch, error)
    said = compress("distill", "--json")
    document = {"schema": 1, "status": status, "code": word, "message": "m", "hint": "h", "exit": code}
    assert (said.code, json.loads(said.out)) == (code, document)
    assert said.err == f"{'stopped' if status == 'stopped' else 'error'}: m\nhint:  h\n"


def test_a_bug_of_ours_is_exit_code_1_without_a_traceback(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, RuntimeError("shapes\ndiffer"))
    said = compress("distill")
    assert said.code == 1
    assert said.err.splitlines() == [
        "error: RuntimeError: shapes (a bug of ours, not of yours)",
        "hint:  run it again with --debug and report what it prints",
    ]
    assert "Traceback (most recent call last)" in compress("distill", "--debug").err
    assert json.loads(compress("distill", "--json").out)["code"] == "bug"


def test_no_memory_is_a_training_error_with_advice(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, MemoryError())
    said = compress("distill")
    assert said.code == 5
    assert "--batch-size" in said.err


def test_ctrl_c_outside_of_training_is_exit_code_130(compress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, KeyboardInterrupt())
    said = compress("distill", "--json")
    assert (said.code, json.loads(said.out)["status"]) == (130, "stopped")
    assert said.err == "stopped: interrupted\n"


def test_the_traceback_goes_into_the_log_of_a_run_that_has_a_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "run", tmp_path / "nothing"):
        folder.mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    for folder in (tmp_path / "run", tmp_path / "nothing"):
        with pytest.raises(InputError, match="broken"), kept(folder):
            raise InputError("broken")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.startswith("Traceback (most recent call last)")
    assert "InputError: broken" in log
    assert not (tmp_path / "nothing" / "log.txt").exists()


def test_an_error_without_a_text_is_named_by_its_type() -> None:
    assert fault_of(ZeroDivisionError()).message == "ZeroDivisionError (a bug of ours, not of yours)"


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def begin(*_: object) -> None:
        raise error

    monkeypatch.setattr(distill_command, "begin", begin)
