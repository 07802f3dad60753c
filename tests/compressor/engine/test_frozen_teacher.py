"""Whatever learns from a teacher leaves its weights and BatchNorm buffers bit for bit as they were."""

from typing import Any

import pytest
import timm
import torch
from tiny_methods import plant
from tiny_runs import SHIPPED, TINY
from torch import nn

import compressor
import compressor.engine.teachers
import compressor_zoo
from compressor.engine.inference import InferenceForm
from compressor.models.taps import TappedModel
from compressor.weights import state_sha256

pytestmark = pytest.mark.usefixtures("tiny")


def teacher_for_digits(bank: str = "cache/compress/teachers") -> nn.Module:
    from pathlib import Path

    from compressor.storage import read_tensors

    assert compressor_zoo.ARCHITECTURES
    [folder] = [path for path in Path(bank).iterdir() if (path / "teacher.json").is_file()]
    net = timm.create_model("cifar_resnet14", num_classes=10)
    net.load_state_dict(read_tensors(folder / "model.safetensors"))
    return net


def forms_that_are_made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TappedModel, str]]:
    """Collect the networks that stand for the teacher in loops, each with the hash of its state at first."""
    made: list[tuple[TappedModel, str]] = []
    make = compressor.engine.teachers.inference_form

    def noting(*given: Any) -> TappedModel:
        tapped = make(*given)
        assert isinstance(tapped, InferenceForm)
        made.append((tapped, state_sha256(tapped.form.state_dict())))
        return tapped

    monkeypatch.setattr(compressor.engine.teachers, "inference_form", noting)
    return made


@pytest.mark.parametrize("method", [*SHIPPED, "demanding"])
def test_teacher_is_bit_identical_after_a_run(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, demanding="tiny_methods:Demanding")
    teacher = teacher_for_digits()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    own = {key: value for key, value in TINY.items() if not key.startswith(("teacher.", "student.", "data.source"))}
    settings = {**own, **SHIPPED.get(method, {})}
    forms = forms_that_are_made(monkeypatch)
    result = compressor.distill(
        method=method, teacher=teacher, student="resnet8", data="tiny.npz", out="run", settings=settings
    )
    after = teacher.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert len(forms) == (method != "scratch")
    for form, digest in forms:
        assert isinstance(form, InferenceForm)
        assert state_sha256(form.form.state_dict()) == digest
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in form.form.parameters())
    assert result.metrics["top1"] > 0
    assert not any("teacher" in key for key in result.model.state_dict())  # type: ignore[union-attr]  # a fresh run has it
