"""K9: a run begun by an earlier version is gone on with, or refused naming both versions; never anything else."""

import json
import shutil
from pathlib import Path

import pytest
from fault_client import ROOT
from fault_runs import Stage, student, weights
from figures import note

from compressor import __version__
from compressor.engine.finish import environment
from compressor.storage import read_json

LEGACY = ROOT / "tests" / "legacy"
VERSIONS = sorted(path.name for path in LEGACY.iterdir() if (path / "about.json").is_file())


def test_there_is_a_run_of_this_series() -> None:
    assert any(version.rpartition(".")[0] == __version__.rpartition(".")[0] for version in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_run_of_an_earlier_version_is_gone_on_with_or_refused_naming_both(version: str, stage: Stage) -> None:
    place, kept = stage.place(bank=False), LEGACY / version
    about = json.loads((kept / "about.json").read_text())
    for name in ("run", "cache"):
        shutil.copytree(kept / name, place / name)
    before = weights(place)
    begun_by = read_json(place / "run" / "run.json")["environment"]  # before it is written anew
    done = stage.run(about["args"], place)
    assert "Traceback" not in done.output
    assert done.status in (0, 3), done.output
    if done.status == 3:
        assert about["version"] in done.output
        assert __version__ in done.output
        assert weights(place) == before
    else:
        assert done.last("run student from") == about["saved"]
        assert not [words for words in done.said if words.startswith("teacher student from")]
        assert same_bits_can_be_expected(begun_by) is False or student(place) == about["student_sha256"]
    note("K9", tried=1, exits=[done.status])


def same_bits_can_be_expected(begun_by: dict[str, object]) -> bool:
    """Whether the run was begun by the same torch on the same kind of machine."""
    ours = environment()
    return all(begun_by[key] == ours[key] for key in ("torch", "machine", "threads", "compressor"))


def test_run_of_another_version_with_other_settings_is_refused_naming_both(stage: Stage) -> None:
    place = stage.place(bank=False)
    kept = LEGACY / VERSIONS[-1]
    shutil.copytree(kept / "run", place / "run")
    described = place / "run" / "run.json"
    text = described.read_text().replace(f'"compressor": "{VERSIONS[-1]}"', '"compressor": "0.0.7"')
    described.write_text(text.replace('"config_sha256": "', '"config_sha256": "0'))
    refused = stage.run(json.loads((kept / "about.json").read_text())["args"], place)
    assert refused.status == 3, refused.output
    assert "0.0.7" in refused.output
    assert __version__ in refused.output
    assert described.read_text().count("0.0.7") == 1


def test_nothing_in_a_kept_run_names_a_machine() -> None:
    for file in LEGACY.rglob("*"):
        if file.suffix in (".json", ".jsonl", ".toml", ".csv", ".lock"):
            text = file.read_text()
            assert "/dev/shm" not in text
            assert "/root" not in text
            assert '"host": "' not in text or '"host": "elsewhere"' in text


def test_folder_of_this_version_is_whole() -> None:
    for version in VERSIONS:
        checkpoints = sorted(Path(LEGACY / version / "run" / "checkpoints").iterdir())
        assert [path.name[-2:] for path in checkpoints] == ["04", "08"]
