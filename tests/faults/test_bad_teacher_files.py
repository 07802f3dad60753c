"""Row D2: weights that cannot be a teacher's are refused in one line that names the file and the first bad key."""

from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
from bad_weights import BadFile, bad_files
from fault_runs import Stage
from figures import SEED, count, note
from hostile_doors import FILE_DOORS, ask, check, report
from torch import nn

import compressor_zoo
from compressor.errors import InputError
from compressor.weights import load_weights, state_sha256

_FILES = 200, 2000
_COMMANDS = 20, 200


def network() -> nn.Module:
    """Build the network that the tiny runs have as a teacher."""
    assert compressor_zoo.ARCHITECTURES
    torch.manual_seed(0)
    net: nn.Module = timm.create_model("cifar_resnet8", num_classes=10)
    return net


def files(number: int) -> list[BadFile]:
    """Return so many files that are bad for `network`."""
    others = {
        "a deeper one": timm.create_model("cifar_resnet14", num_classes=10).state_dict(),
        "another kind": timm.create_model("cifar_vgg8", num_classes=10).state_dict(),
        "one for other classes": timm.create_model("cifar_resnet8", num_classes=7).state_dict(),
        "one layer": nn.Linear(3, 4).state_dict(),
    }
    return bad_files(number, SEED, network().state_dict(), others)


def name_of(number: int, file: BadFile) -> str:
    """Return the name under which a file is written."""
    return f"bad{number}.{file.ending}"


def test_every_bad_file_is_refused_by_name_and_key_and_changes_nothing(tmp_path: Path) -> None:
    net = network()
    before = state_sha256(net.state_dict())
    wrong: list[str] = []
    exits: list[int] = []
    every = files(count(*_FILES))
    for number, file in enumerate(every):
        path = tmp_path / name_of(number, file)
        path.write_bytes(file.content)
        try:
            load_weights(net, path)
        except InputError as refused:
            exits.append(refused.exit_code)
            said = refused.message
            if path.name not in said or repr(file.key)[1:-1] not in said or "\n" in said or len(said) > 1000:
                wrong.append(f"{file.kind} ({file.key}): {said[:300]}")
        except Exception as bug:  # noqa: BLE001  # whatever it is, the row must tell it
            wrong.append(f"{file.kind}: {type(bug).__name__}: {bug}")
        else:
            wrong.append(f"{file.kind} was loaded")
        path.unlink()
    note("D2", tried=len(every), exits=exits, wrong=len(wrong), tracebacks=len(every) - len(exits))
    assert not wrong, "\n".join(wrong)
    assert len({file.kind.split(",")[0] for file in every}) > 25
    assert state_sha256(net.state_dict()) == before


def test_commands_refuse_bad_files_with_exit_3(stage: Stage) -> None:
    every = list(enumerate(files(count(*_FILES))))
    chosen = every[:: len(every) // count(*_COMMANDS)]
    place = stage.place()
    doors = list(FILE_DOORS)
    cases = []
    kinds: Counter[str] = Counter()
    for turn, (number, file) in enumerate(chosen):
        (place / name_of(number, file)).write_bytes(file.content)
        door = doors[turn % len(doors)]
        if door == "convert" and not file.kind.startswith(("random", "cut", "header", "no state", "NaN")):
            door = doors[0]  # what is no teacher for this network may well be converted
        kinds[door] += 1
        arguments = FILE_DOORS[door](name_of(number, file))
        cases.append({"label": f"{file.kind}: {door}", "arguments": arguments, "remove": ["out"]})
    answers = ask(stage, place, cases, watched=False)
    report("D2", answers)
    check(answers, names=[f"bad{number}." for number, _ in chosen])
    assert len(kinds) >= 4


def test_what_is_no_file_is_refused_without_waiting(stage: Stage) -> None:
    import os

    place = stage.place()
    os.mkfifo(place / "pipe.pth")
    (place / "folder.safetensors").mkdir()
    (place / "nowhere.pth").symlink_to("gone.pth")
    (place / "loop.pth").symlink_to("loop.pth")
    names = [
        "pipe.pth",
        "folder.safetensors",
        "nowhere.pth",
        "loop.pth",
        "missing.pth",
        "/dev/zero",
        "a\0b.pth",
        "x" * 300,
    ]
    cases = [
        {"label": f"{name}: {door}", "arguments": FILE_DOORS[door](name)}
        for name in names
        for door in ("convert", "eval --weights")
    ]
    answers = ask(stage, place, cases, watched=False)
    report("D2", answers)
    check(answers, exits=(2, 3))
    assert all(answer.exit == 3 for answer in answers if "\0" not in answer.label)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_that_fit_are_taken(kind: torch.dtype, tmp_path: Path) -> None:
    """Not everything is refused: half and double precision are converted."""
    net = network()
    torch.save(
        {name: value.to(kind) if value.is_floating_point() else value for name, value in net.state_dict().items()},
        tmp_path / "good.pth",
    )
    load_weights(net, tmp_path / "good.pth")
    assert {value.dtype for value in net.state_dict().values() if value.is_floating_point()} == {torch.float32}
