"""Rows C1 and C2: no config file and no setting makes anything but two lines and exit code 2, at once."""

import os
import time
from pathlib import Path

import pytest
from bad_configs import SOUND, BadConfig, bad_configs
from fault_runs import Stage, distill
from figures import SEED, count, note
from hostile_doors import ask, check, report

from compressor.config.layers import parse_assignment, read_file, resolve
from compressor.errors import UsageError

_CONFIGS = 150, 500
_COMMANDS = 40, 150


def refusal(path: Path) -> UsageError | None:
    """Read a config file down to the identity of its run."""
    try:
        assert resolve([read_file(path)]).config.sha256
    except UsageError as refused:
        return refused
    return None


def test_every_bad_config_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    wrong: list[str] = []
    refused = 0
    every = bad_configs(count(*_CONFIGS), SEED)
    for config in every:
        path.write_bytes(config.content)
        began = time.process_time()  # others may be at work on the machine
        said = refusal(path)
        if time.process_time() - began > 2:
            wrong.append(f"{config.kind} took {time.process_time() - began:.1f} s")
        if said is None:
            if config.says:
                wrong.append(f"{config.kind} was taken")
            continue
        refused += 1
        if str(path) not in said.message or config.says not in said.message or "\n" in said.message:
            wrong.append(f"{config.kind}: {said.message[:300]}")
        if len(said.message) > 600:
            wrong.append(f"{config.kind}: a message of {len(said.message)} letters")
    note("C1", tried=len(every), exits=[2] * refused, wrong=len(wrong))
    assert not wrong, "\n".join(wrong)
    assert refused > 0.7 * len(every)


def test_the_nearest_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"[training]\nbatch_sizes = 3\n")
    said = refusal(path)
    assert said is not None
    assert said.message == f"{path}:2: unknown setting 'training.batch_sizes'"
    assert "training.batch_size" in str(said.hint)


@pytest.mark.parametrize(
    "content", [SOUND, b"\xef\xbb\xbf" + SOUND, SOUND.replace(b"\n", b"\r\n"), b"", b"# nothing\n"]
)
def test_a_sound_config_is_taken(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    assert refusal(tmp_path / "mine.toml") is None


def test_commands_refuse_bad_configs_with_exit_2_and_little_memory(stage: Stage) -> None:
    every = [config for config in bad_configs(count(*_CONFIGS), SEED) if config.says]
    chosen = every[:: max(1, len(every) // count(*_COMMANDS))]
    place = stage.place(bank=False)
    os.mkfifo(place / "pipe.toml")
    (place / "folder.toml").mkdir()
    odd = ["pipe.toml", "folder.toml", "missing.toml", "/dev/zero", "/proc/self/mem", "x" * 5000 + ".toml"]
    cases = [{"label": name[:20], "arguments": ["distill", "--config", name, "--print-config"]} for name in odd]
    for number, config in enumerate(chosen):
        (place / f"mine{number}.toml").write_bytes(config.content)
        arguments = ["distill", "--config", f"mine{number}.toml", "--print-config"]
        cases.append({"label": config.kind, "arguments": arguments})
    answers = ask(stage, place, cases, watched=False)
    report("C1", answers)
    check(answers, exits=(2,))
    assert max(answer.seconds for answer in answers) < 10


@pytest.mark.parametrize("text", ["method.x=" + "[" * 5_000, "seed=" + "9" * 5_000, "method.x=" + "{a=" * 3_000])
def test_an_assignment_without_end_is_no_bug(text: str) -> None:
    with pytest.raises(UsageError):
        assert resolve([read_as_layer(text)]).config.sha256


def read_as_layer(text: str) -> object:
    """Read one ``--set`` as the command line does."""
    from compressor.config.layers import Layer

    key, value = parse_assignment(text)
    return Layer("--set", {key: value})


HUGE = {
    "--epochs": "1000000000000",
    "--batch-size": "1000000000",
    "--workers": "100000",
    "--img-size": "1000000",
    "--threads": "100000",
    "--processes": "100000",
    "--seed": "99999999999999999999",
    "--lr": "1e400",
    "--val-split": "7",
    "--shots": "-1",
    "--micro-batches": "1000000",
    "--crop-padding": "100000",
}


def test_numbers_that_are_too_large_are_refused_before_anything_is_allocated(stage: Stage) -> None:
    place = stage.place()
    cases = [{"label": f"{option} {value}", "arguments": ["distill", option, value]} for option, value in HUGE.items()]
    resident = distill(out="large", data__image_size=1024, data__pipeline="resident")
    cases.append({"label": "pictures larger than memory", "arguments": resident})
    streamed = distill(out="large", data__image_size=1024, data__pipeline="stream", training__batch_size=128)
    cases.append({"label": "a batch larger than memory", "arguments": streamed})
    cases.append(
        {"label": "a batch larger than the data", "arguments": distill(out="large", training__batch_size=60_000)}
    )
    answers = ask(stage, place, cases, watched=False, memory=500_000_000)
    report("C2", answers)
    check(answers, exits=(2,))
    said = {answer.label: "".join(answer.errors) for answer in answers}
    assert "1 to 100,000" in said["--epochs 1000000000000"]
    # 206 images of 3 x 1024 x 1024 bytes are 648 MB, 128 of them as numbers of four bytes 1.6 GB
    assert (
        "206 images of 1024 x 1024 take 648 MB of memory, this machine has 500 MB"
        in said["pictures larger than memory"]
    )
    assert "a batch of 128 images of 1024 x 1024 takes 1.6 GB" in said["a batch larger than memory"]
    assert "60000" in said["a batch larger than the data"].replace(",", "")


def test_every_kind_of_bad_config_is_made() -> None:
    kinds = [config.kind for config in bad_configs(150, 0)]
    assert {"garbled", "random bytes", "cut", "mistyped key"} <= set(kinds)
    assert len(set(kinds)) > 60
    assert all(isinstance(config, BadConfig) for config in bad_configs(1, 0))
