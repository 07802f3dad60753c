"""A student whose method keeps parts of its own: trained, published whole, told, and loaded by plain timm."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from tiny_runs import student_sha, tiny_run, until_done
from torch import Tensor, nn

from compressor.cli.show import lines_of
from compressor.cli.summary import Spent, done_block
from compressor.distiller import ExtendedStudent
from compressor.engine.history import read_run
from compressor.engine.provenance import building, first_weights
from compressor.engine.results import RunResult
from compressor.models.catalogue import resolve_name
from compressor.models.create import BuiltModel
from compressor.publishing import export_onnx
from compressor.publishing.republish import republish
from compressor.storage import read_json, read_tensors


@pytest.fixture
def run(tiny: Path) -> RunResult:
    return tiny_run("simkd")


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_whole_is_loaded_by_timm_after_one_import_and_answers_as_the_trained_one(run: RunResult) -> None:
    config = config_of(run.student_folder)
    assert config["architecture"] == "zoo_reused_classifier"
    assert config["model_args"]["student"] == "cifar_resnet8"
    assert config["compress"]["requires"] == ["compressor_zoo"]
    again = timm.create_model(f"local-dir:{run.student_folder}", pretrained=True).eval()
    assert run.model is not None
    with torch.no_grad():
        assert torch.equal(again(images()), run.model.eval()(images()))


def test_it_is_the_whole_that_was_evaluated(run: RunResult, tiny: Path) -> None:
    test = np.load(tiny / "tiny.npz")["x_test"]
    pixels = torch.from_numpy(test).unsqueeze(1).expand(-1, 3, -1, -1) / 255
    again = timm.create_model(f"local-dir:{run.student_folder}", pretrained=True).eval()
    mean, std = (torch.tensor(again.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    seen = read_tensors(run.folder / "test.safetensors")
    with torch.no_grad():
        assert torch.allclose(again((pixels - mean) / std), seen["logits"], rtol=1e-4, atol=1e-5)
    assert run.metrics["top1"] == pytest.approx(
        100 * float((seen["logits"].argmax(1) == seen["labels"]).float().mean())
    )
    assert isinstance(run.model, ExtendedStudent)


def test_the_reused_classifier_is_the_trained_teachers(run: RunResult, tiny: Path) -> None:
    (weights,) = (tiny / "cache").rglob("teachers/**/model.safetensors")
    teacher, whole = read_tensors(weights), read_tensors(run.student_folder / "model.safetensors")
    for name in ("weight", "bias"):
        assert torch.equal(whole[f"classifier.{name}"], teacher[f"fc.{name}"])


def test_projector_and_classifier_are_counted_and_named_everywhere(run: RunResult) -> None:
    student = run.values["student"]
    # Width 64 to 64 through 32: convolutions of 1, 9 and 1 places, two numbers of batch normalisation a channel.
    projector = 64 * 32 + 9 * 32 * 32 + 32 * 64 + 2 * (32 + 32 + 64)
    extras = {"the projector": projector, "the teacher's classifier": 64 * 10 + 10}
    alone = timm.create_model("cifar_resnet8", num_classes=0)
    assert student["extras"] == extras
    assert student["parameters"] == sum(p.numel() for p in alone.parameters()) + sum(extras.values())
    # At 8 x 8 the last map has 2 x 2 places; the student alone has no classifier to count.
    from compressor.models.create import multiply_adds

    places = 4 * (64 * 32 + 9 * 32 * 32 + 32 * 64) + 64 * 10
    assert student["macs"] == multiply_adds(alone, (3, 8, 8)) + places
    record: Any = read_json(run.student_folder / "compress.json")
    assert record["student"]["extras"] == extras
    assert record["student"]["inner"] == "cifar_resnet8"
    card = (run.student_folder / "README.md").read_text(encoding="utf-8")
    assert "# cifar_resnet8-simkd-" in card
    assert f"the projector ({projector:,} parameters) and the teacher's classifier (650 parameters)" in card
    assert f"| student | {student['parameters']:,} |" in card


def test_show_and_the_end_of_a_run_say_so_too(run: RunResult) -> None:
    line = "counts the projector (13.6 k) and the teacher's classifier (650), which stay with the student"
    assert line in [text.strip() for text in lines_of(read_run(run.folder))]
    block = done_block(run.document(), Spent(1.0, 1.0), next_command="x")
    assert line in block


def test_nothing_is_said_of_a_student_alone(tiny: Path) -> None:
    alone = tiny_run("kd")
    assert "extras" not in alone.values["student"]
    assert "extras" not in read_json(alone.student_folder / "compress.json")["student"]  # type: ignore[index,call-overload,operator]  # plain JSON
    assert "needs more than the student" not in (alone.student_folder / "README.md").read_text(encoding="utf-8")


def test_it_is_published_again_and_written_as_onnx(run: RunResult, tmp_path: Path) -> None:
    copy = republish(run.student_folder, tmp_path / "copy", push=None, onnx=False, license="mit")
    assert "the teacher's classifier" in (copy / "README.md").read_text(encoding="utf-8")
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None:
        pytest.skip("onnxruntime is not installed")
    assert run.model is not None
    assert export_onnx(run.model, tmp_path / "model.onnx", (3, 8, 8)) <= 1e-4


@pytest.mark.parametrize(
    "settings",
    [{"training__select": "best", "data__val_split": 0.2}, {"training__ema_decay": 0.9}, {"method__reduction": 8}],
)
def test_the_best_epoch_an_average_and_another_width_are_whole_too(settings: dict[str, Any], tiny: Path) -> None:
    run = tiny_run("simkd", **settings)
    again = timm.create_model(f"local-dir:{run.student_folder}", pretrained=True).eval()
    assert run.model is not None
    with torch.no_grad():
        assert torch.equal(again(images()), run.model(images()))


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_whole(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = student_sha(tiny_run("simkd", out="straight"))
    result, stops = until_done(monkeypatch, 5, lambda: tiny_run("simkd", out="stopped"))
    assert stops >= 2
    assert student_sha(result) == straight


def test_where_its_name_does_not_build_it_the_tensors_are_published_with_a_word_on_loading(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor_zoo.architectures import reused_classifier

    monkeypatch.setattr(reused_classifier.ReusedClassifier, "forward", lambda self, x: torch.zeros(len(x), 10))
    monkeypatch.setattr("compressor.publishing.folder.check_in_fresh_process", _check_here)
    run = tiny_run("simkd")
    assert "architecture" not in config_of(run.student_folder)
    assert any("zoo_reused_classifier does not build this network again" in text for text in run.values["warnings"])
    assert "has no importable name" in (run.student_folder / "README.md").read_text(encoding="utf-8")
    assert run.values["student"]["load"].startswith("safetensors.torch.load_file")


def _check_here(*arguments: Any) -> float:
    from compressor.publishing.check import check_here

    return check_here(*arguments)


class Whole(ExtendedStudent):
    """A network and one layer behind it, with a name that nobody registered."""

    def __init__(self, student: nn.Module, **named: Any) -> None:
        super().__init__(student, {"a head": nn.Linear(2, 2)}, **named)


def built(name: str, **changes: Any) -> Any:
    from compressor.engine.networks import Student
    from compressor.engine.normalise import Normalisation

    model = BuiltModel(module=nn.Linear(1, 1), name=resolve_name(name), **changes)
    return Student(model, Normalisation((0.5,), (0.5,)))


def test_what_builds_the_whole_names_both_architectures_and_both_packages() -> None:
    whole = Whole(nn.Linear(1, 1), architecture="zoo_reused_classifier", model_args={"width": 3})
    student = built("resnet10t", arguments={"in_chans": 1}, requires=("my_networks",))
    assert building(student, whole) == {
        "inner": "resnet10t",
        "extras": {"a head": 6},
        "architecture": "zoo_reused_classifier",
        "model_args": {"width": 3, "student": "resnet10t", "student_args": {"in_chans": 1}},
        "requires": ("my_networks", "compressor_zoo"),
    }


@pytest.mark.parametrize(
    ("name", "architecture"), [("python:Linear", "zoo_reused_classifier"), ("resnet10t", None), ("a.b:make", "whole")]
)
def test_a_whole_without_a_name_or_of_a_nameless_student_has_no_architecture(
    name: str, architecture: str | None
) -> None:
    student = built(name)
    if ":make" in name:
        student = replace(student, built=replace(student.built, factory="a.b:make"))
    said = building(student, Whole(nn.Linear(1, 1), architecture=architecture))
    assert said["architecture"] is None
    assert set(said) == {"inner", "extras", "architecture"}


def test_first_weights_are_those_of_the_student_in_the_whole() -> None:
    from compressor.config.settings import RunConfig, StudentConfig

    net = nn.Linear(1, 1)
    net.pretrained_cfg = {"hf_hub_id": "timm/resnet10t.c3_in1k"}  # type: ignore[assignment]  # as timm does
    config = RunConfig(student=StudentConfig(name="resnet10t", init="pretrained"))
    assert first_weights(config, built("resnet10t"), Whole(net))["started_from"] == "timm/resnet10t.c3_in1k"
