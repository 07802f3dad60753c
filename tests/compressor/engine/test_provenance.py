"""What a card says of a run, against runs that were put together by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from compressor.config.settings import DataConfig, RunConfig, StudentConfig, TeacherConfig, TrainingConfig
from compressor.data.scenarios import Scenario
from compressor.engine.provenance import building, data_facts, first_weights, measured_on, selection, teacher_facts
from compressor.models.catalogue import resolve_name
from compressor.models.create import BuiltModel


def data(**changes: Any) -> Any:
    given = {"name": "/home/me/flowers", "test": range(1200), "val": range(90), "train": range(5000), "unreadable": ()}
    return SimpleNamespace(**{**given, "scenario": Scenario(), **changes})


def seat(epoch: int | None, weights: dict[str, torch.Tensor] | None) -> Any:
    return SimpleNamespace(lane=SimpleNamespace(best=SimpleNamespace(epoch=epoch, weights=weights)))


def student(name: str, **changes: Any) -> Any:
    return SimpleNamespace(built=BuiltModel(module=nn.Linear(1, 1), name=resolve_name(name), **changes))


def teacher(net: nn.Module, origin: str) -> Any:
    return SimpleNamespace(name="t", origin=origin, sha256="a" * 64, tapped=SimpleNamespace(net=net))


def test_the_images_behind_the_figures_are_counted_and_their_path_is_not_told():
    words = "the 1,200 test images of flowers, which the student neither learned from nor was chosen by"
    assert measured_on(data()) == words
    assert measured_on(data(unreadable=("a", "b"))).endswith("(2 unreadable images were left out of the data)")


def test_the_best_epoch_is_counted_from_one_and_names_what_it_was_chosen_on():
    best = RunConfig(training=TrainingConfig(select="best"))
    weights = {"w": torch.zeros(1)}
    assert selection(best, seat(6, weights), data()).startswith("epoch 7, the best of them on 90 held-out images")
    assert selection(best, seat(None, None), data()) == "the last epoch, chosen on nothing"
    last = RunConfig(training=TrainingConfig(select="last"))
    assert selection(last, seat(6, weights), data()) == "the last epoch, chosen on nothing"


@pytest.mark.parametrize(
    ("source", "hub_id"), [("hfds/org/flowers", "org/flowers"), ("hfds/mnist", None), ("torch/cifar10", None)]
)
def test_only_data_of_the_hub_has_a_hub_id(source: str, hub_id: str | None):
    facts = data_facts(RunConfig(data=DataConfig(source=source)), data())
    assert (facts.hub_id, facts.images, facts.scenario) == (hub_id, 5000, "")


def test_facts_of_the_data_say_how_the_students_part_was_made():
    facts = data_facts(RunConfig(), data(scenario=Scenario(fraction=25, label_noise=0.2)))
    assert facts.scenario == "25 % of each class, 20 % wrong labels"
    pooled = RunConfig(data=DataConfig(augmentation_pool=8))
    assert data_facts(pooled, data()).scenario == "8 draws of each image's augmentation for all epochs"
    given = data_facts(pooled, data(scenario=Scenario(fraction=25))).scenario
    assert given == "25 % of each class, 8 draws of each image's augmentation for all epochs"
    for unchanged in ("fresh", "all"):
        assert data_facts(RunConfig(data=DataConfig(augmentation_pool=unchanged)), data()).scenario == ""


@pytest.mark.parametrize(
    ("name", "init", "words"),
    [
        ("resnet10t", "scratch", "random"),
        ("resnet10t", "/home/me/secret/first.safetensors", "the file first.safetensors"),
        ("resnet10t", "pretrained", "pretrained"),
        ("python:Net", "scratch", "those of the network as it was given in Python"),
        ("run:/home/me/secret/run", "scratch", "those of another student, run"),
    ],
)
def test_first_weights_are_told_in_words_without_a_path(name: str, init: str, words: str):
    config = RunConfig(student=StudentConfig(name=name, init=init))
    assert first_weights(config, student(name), nn.Linear(1, 1)) == {"started_from": None, "first_weights": words}


def test_the_hub_id_of_pretrained_weights_is_told_and_that_of_random_ones_is_not():
    net = nn.Linear(1, 1)
    net.pretrained_cfg = {"hf_hub_id": "timm/resnet10t.c3_in1k"}  # type: ignore[assignment]  # as timm does
    for init, hub_id in (("pretrained", "timm/resnet10t.c3_in1k"), ("scratch", None)):
        config = RunConfig(student=StudentConfig(name="resnet10t", init=init))
        assert first_weights(config, student("resnet10t"), net)["started_from"] == hub_id


@pytest.mark.parametrize(
    ("name", "weights", "origin", "words"),
    [
        ("resnet10t", None, "/home/me/bank/x", "trained by this program on the same data"),
        ("resnet10t", "/home/me/x.pt", "/home/me/x.pt", "weights from a file of the user's"),
        ("run:/home/me/run", None, "run:/home/me/run", "weights from a file of the user's"),
        ("resnet10t", "pretrained", "pretrained", "pretrained"),
        ("hf-hub:org/net", None, "hf-hub:org/net", "pretrained"),
        ("python:Net", "0123", "given", "given as a network in Python"),
    ],
)
def test_where_the_teachers_weights_came_from_is_told(name: str, weights: str | None, origin: str, words: str):
    config = RunConfig(teacher=TeacherConfig(name=name, weights=weights))
    facts = teacher_facts(config, teacher(nn.Linear(2, 3), origin), 90.0)
    assert (facts.origin, facts.metrics, facts.parameters) == (words, {"top1": 90.0}, 9)
    assert facts.hub_id == ("org/net" if name.startswith("hf-hub:") else None)


def test_a_network_is_built_again_by_its_name_its_factory_or_not_at_all():
    net = nn.Linear(1, 1)
    assert building(student("timm/resnet10t.c3_in1k", arguments={"img_size": 64}), net) == {
        "architecture": "resnet10t",
        "model_args": {"img_size": 64},
        "requires": (),
    }
    assert building(student("own.nets:build", factory="own.nets:build"), net)["factory"] == "own.nets:build"
    assert building(student("python:Linear"), net)["architecture"] is None
    net.pretrained_cfg = {"architecture": "cifar_resnet8"}  # type: ignore[assignment]  # as timm does
    assert building(student("python:Linear"), net)["requires"] == ("compressor_zoo",)
