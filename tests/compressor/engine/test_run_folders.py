"""Run folders: finished ones are only read, foreign and different ones refused, damaged places survived."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import Recorder, checkpoint_folders, stop_after, student_sha, tiny_config, tiny_run

from compressor.engine.folders import default_folder
from compressor.errors import InputError, Stopped, StorageError, UsageError
from compressor.events import Fact, Warned
from compressor.storage import read_json


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stopped_run(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    for count in steps:
        stop_after(monkeypatch, count)
        with pytest.raises(Stopped):
            tiny_run("kd")
    stop_after(monkeypatch, None)


def test_finished_run_returns_its_result_and_touches_nothing(tiny: Path) -> None:
    first = tiny_run("kd")
    before = contents(Path("run"))
    recorder = Recorder()
    again = tiny_run("kd", listener=recorder)
    assert again.document() == first.document()
    assert again.model is None
    assert contents(Path("run")) == before
    assert ["already complete" in fact.text for fact in recorder.of(Fact)] == [True]


def test_finished_run_is_told_without_the_data(tiny: Path) -> None:
    first = tiny_run("kd")
    (tiny / "tiny.npz").unlink()
    assert tiny_run("kd").document() == first.document()


def test_run_folder_holds_what_was_promised_and_no_pickle(tiny: Path) -> None:
    tiny_run("kd", training__select="best")
    names = {path.name for path in Path("run").iterdir()}
    assert {"config.toml", "run.json", "metrics.csv", "events.jsonl", "result.json", "test.safetensors"} <= names
    assert {"checkpoints", "student"} <= names
    for root in (Path("run"), tiny / "cache"):
        files = [path for path in root.rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if path.suffix in (".pt", ".pth", ".bin", ".pkl", ".pickle", ".tar")]
        assert not [path for path in files if path.read_bytes()[:4] == b"PK\x03\x04"]  # what torch.save writes


def test_result_repeats_what_the_run_was(tiny: Path) -> None:
    result = tiny_run("kd", seed=2)
    document = read_json(Path("run/result.json"))
    assert isinstance(document, dict)
    assert document == json.loads(json.dumps(result.document()))
    assert document["config_sha256"] == tiny_config("kd", seed=2).sha256
    assert (document["method"], document["seed"], document["epochs"], document["select"]) == ("kd", 2, 2, "last")
    assert document["data"]["train"] + document["data"]["val"] == 300
    assert document["metrics"]["images"] == document["data"]["test"] == 100
    assert document["cost"]["steps"] == 12


def test_other_settings_in_the_same_folder_are_refused_and_listed(tiny: Path) -> None:
    tiny_run("kd")
    with pytest.raises(UsageError) as caught:
        tiny_run("kd", training__epochs=3, method__kd_temperature=2.0)
    text = str(caught.value)
    assert "run was made with other settings" in text
    assert "training.epochs 2 -> 3" in text
    assert "method.kd_temperature (default) -> 2.0" in text
    assert "data" not in text.partition("settings:")[2]
    assert caught.value.hint is not None
    assert "--fresh" in caught.value.hint


def test_runtime_settings_are_no_other_settings(tiny: Path) -> None:
    tiny_run("kd")
    assert tiny_run("kd", runtime__save_every=5.0, runtime__workers=0).model is None


def test_fresh_sets_the_old_run_aside(tiny: Path) -> None:
    first = tiny_run("kd")
    before = {name: digest for name, (digest, _) in contents(Path("run")).items()}
    second = tiny_run("kd", training__epochs=1, fresh=True)
    assert second.values["epochs"] == 1
    asides = [path for path in tiny.iterdir() if path.name.startswith("run") and path.name != "run"]
    assert len(asides) == 1
    assert {name: digest for name, (digest, _) in contents(asides[0]).items()} == before
    assert student_sha(first) != student_sha(second)


def test_folder_with_something_else_in_it_is_refused(tiny: Path) -> None:
    (tiny / "run").mkdir()
    (tiny / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(StorageError, match="run is not empty and holds no run"):
        tiny_run("kd")
    assert (tiny / "run" / "thesis.tex").read_text() == "mine"


def test_default_folder_names_the_run(tiny: Path) -> None:
    config = tiny_config("kd", seed=4)
    name = default_folder(config).as_posix()
    assert name == f"runs/resnet8-resnet14-tiny.npz-kd-s4-{config.sha256[:6]}"


def truncate(folder: Path) -> None:
    file = folder / "lane.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder: Path) -> None:
    file = folder / "lane.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(bytes(data))


def edit_state(folder: Path) -> None:
    file = folder / "state.json"
    file.write_text(file.read_text().replace('"step"', '"stop"'))


def forget_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def forget_file(folder: Path) -> None:
    (folder / "lane.safetensors").unlink()


def add_file(folder: Path) -> None:
    (folder / "custom_checkpoint_0.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


DAMAGES = [truncate, flip, edit_state, forget_manifest, forget_file, add_file]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_checkpoint_falls_back_to_the_one_before_and_ends_identical(
    damage: Callable[[Path], None], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_run(monkeypatch, 4, 3)
    before, newest = checkpoint_folders(Path("run"))
    damage(newest)
    recorder = Recorder()
    result = tiny_run("kd", listener=recorder)
    assert any(f"resuming at step {int(before.name[-2:])}" in fact.text for fact in recorder.of(Fact))
    assert [True for warning in recorder.of(Warned) if "going on from the one before" in warning.message] == [True]
    assert student_sha(result) == student_sha(tiny_run("kd", out="undisturbed"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_run_with_no_whole_checkpoint_left_stops_with_exit_3(
    damage: Callable[[Path], None], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_run(monkeypatch, 4, 3)
    for folder in checkpoint_folders(Path("run")):
        damage(folder)
    with pytest.raises(InputError, match="no whole checkpoint is left") as caught:
        tiny_run("kd")
    assert caught.value.exit_code == 3
    assert "--fresh" in str(caught.value.hint)


def test_checkpoint_of_another_run_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_run(monkeypatch, 4)
    stop_after(monkeypatch, 4)
    with pytest.raises(Stopped):
        tiny_run("kd", out="other", seed=1)
    stop_after(monkeypatch, None)
    shutil.rmtree("run/checkpoints")
    shutil.copytree("other/checkpoints", "run/checkpoints")
    with pytest.raises(InputError, match="was made with other settings"):
        tiny_run("kd")
