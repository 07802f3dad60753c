"""The network that SimKD publishes: built by name, from the arguments that the method gives."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import compressor_zoo
from compressor.distiller import NetworkSpec, Pair, StageSpec
from compressor_plugins.simkd import SimKD, SimKDConfig, last_map
from compressor_zoo.architectures.reused_classifier import ReusedClassifier

NAME = "zoo_reused_classifier"
STUDENTS = ("cifar_resnet8", "cifar_wrn_16_1", "cifar_mobilenetv2_half", "test_resnet", "mobilenetv3_small_050")


def images(side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def exported(student: str, *, size: tuple[int, int], pooled: bool, **arguments: Any) -> Any:
    """Return what SimKD makes of a student, with running statistics that are not the initial ones."""
    torch.manual_seed(3)
    net: nn.Module = timm.create_model(student, num_classes=5, **arguments)
    maps = last_map(net, images())
    bare = NetworkSpec(name="x", stages=(), preacts=False, embedding_width=12, num_classes=5)
    ours = StageSpec(name="stage0", channels=maps.shape[1], height=maps.shape[2], width=maps.shape[3])
    theirs = StageSpec(name="stage0", channels=12, height=size[0], width=size[1])
    teacher = replace(bare, stages=(theirs,), pooled_embedding=pooled, classifier_copier=lambda: nn.Linear(12, 5))
    pair = Pair(
        student=replace(bare, stages=(ours,)), teacher=teacher, num_classes=5, train_size=5, class_counts=(1,) * 5
    )
    method = SimKD(SimKDConfig(reduction=3), pair)
    method.projector(last_map(net, images()))
    return method.export(net).eval()


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("pooled", [True, False])
def test_arguments_and_weights_of_the_method_build_the_same_network(student: str, pooled: bool) -> None:
    whole = exported(student, size=(1, 2), pooled=pooled)
    again = timm.create_model(NAME, student=student, student_args={}, num_classes=5, **whole.model_args)
    assert isinstance(again, ReusedClassifier)
    again.load_state_dict(whole.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images()), whole(images()))


def test_arguments_of_the_student_are_passed_on() -> None:
    made = timm.create_model(
        NAME, student="test_vit", student_args={"img_size": 32, "in_chans": 1}, width=6, num_classes=4
    )
    assert made.student.patch_embed.img_size == (32, 32)
    assert made(images(channels=1)).shape == (2, 4)


def test_it_has_timms_interface_to_the_vector_in_front_of_the_classifier() -> None:
    made = timm.create_model(NAME, student="cifar_resnet8", width=6, num_classes=4).eval()
    maps = made.forward_features(images())
    vectors = made.forward_head(maps, pre_logits=True)
    assert (maps.shape, vectors.shape, made.num_features) == ((2, 6, 8, 8), (2, 6), 6)
    assert torch.equal(made.get_classifier()(vectors), made(images()))
    made.reset_classifier(9)
    assert made(images()).shape == (2, 9)
    made.reset_classifier(0)
    assert torch.equal(made(images()), vectors)


def test_layers_behind_the_students_last_map_are_not_carried_along() -> None:
    made = timm.create_model(NAME, student="cifar_mobilenetv2_half", width=6)
    alone = timm.create_model("cifar_mobilenetv2_half")
    tail = [name for name, _ in alone.named_parameters() if name not in dict(made.student.named_parameters())]
    assert {name.split(".")[0] for name in tail} == {"conv2", "classifier"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "it is built from a published folder, which names student= and width="),
        ({"student": "cifar_resnet8"}, "names student= and width="),
        ({"student": "vgg99", "width": 3}, "Unknown model"),
    ],
)
def test_without_a_student_it_cannot_be_built(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        timm.create_model(NAME, **arguments)


def test_it_is_registered_and_is_no_network_to_choose() -> None:
    assert timm.is_model(NAME)
    assert NAME not in compressor_zoo.ARCHITECTURES
