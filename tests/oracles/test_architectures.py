"""The zoo's networks against numbers of the official implementations, with closed-form weights, in float64."""

from typing import Any

import pytest
import timm
import torch
from oracle_io import Oracle, close, hashed_fill, oracle_folder
from torch import Tensor
from torch.nn import functional as F

import compressor_zoo
from compressor_zoo.architectures.base import ZooNetwork
from compressor_zoo.architectures.mobilenetv2 import SSKD_KEYS
from compressor_zoo.summary import count_macs, count_parameters

FOLDER = oracle_folder("losses")
DESCRIPTION, TENSORS = (
    Oracle(FOLDER).files("architectures") if (FOLDER / "architectures.json").exists() else ({"networks": {}}, {})
)
NETWORKS: dict[str, Any] = DESCRIPTION["networks"]
PLAIN = [name for name, network in NETWORKS.items() if network["module_forward_type"] == "plain"]
WITH_BRANCHES = [name for name in NETWORKS if name not in PLAIN]

OUR_NAMES = {
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenetv2_half",
    "ShuffleV1": "shufflenetv1",
    "ShuffleV2": "shufflenetv2",
    "vgg13_bn": "vgg13",
    "mobilenetV2": "mobilenetv2_half_stride1",
}


def build(name: str) -> ZooNetwork:
    short = name.removeprefix("hsakd_").removesuffix("_aux")
    model = timm.create_model(f"cifar_{OUR_NAMES.get(short, short)}", num_classes=DESCRIPTION["num_classes"])
    assert isinstance(model, ZooNetwork)
    hashed_fill(model, DESCRIPTION["fill_rule"]["salt"])
    return model.eval()


def images() -> Tensor:
    return TENSORS[DESCRIPTION["input"].rpartition(" ")[2]].double()


@pytest.mark.parametrize("name", PLAIN)
def test_network_equals_the_official_one_in_size_keys_and_evaluation(name: str) -> None:
    wanted = NETWORKS[name]
    model = build(name)
    assert count_parameters(model) == wanted["params"]
    assert count_macs(model) == wanted["macs"]
    assert [[key, list(value.shape)] for key, value in model.state_dict().items()] == wanted["state_dict"]
    assert [key for key, _ in model.named_parameters()] == wanted["trainable_order"]
    with torch.no_grad():
        final, maps, preacts = model.forward_taps(images(), preacts=True)
        vector = model.forward_head(final, pre_logits=True)
        logits = model.forward_head(final)
    assert close(logits, TENSORS[f"{name}/logits_eval"], rtol=1e-9)
    check_statistics([*maps, vector], wanted["feats"])
    check_statistics([*preacts, vector], wanted["preact_feats"])


@pytest.mark.parametrize("name", PLAIN)
def test_network_trains_as_the_official_one_does(name: str) -> None:
    check_training_step(build(name), name)


@pytest.mark.parametrize("name", WITH_BRANCHES)
def test_backbone_of_a_network_with_branches_has_our_keys_in_our_order(name: str) -> None:
    renamed = SSKD_KEYS if "mobilenetV2" in name else {}
    official = [
        (key.removeprefix("backbone."), shape)
        for key, shape in NETWORKS[name]["state_dict"]
        if key.startswith("backbone.")
    ]
    backbone = [[renamed.get(key, key), shape] for key, shape in official]
    assert [[key, list(value.shape)] for key, value in build(name).state_dict().items()] == backbone


@pytest.mark.parametrize("name", [name for name in WITH_BRANCHES if "mobilenetV2" in name])
def test_stride_one_mobilenet_equals_the_official_backbone(name: str) -> None:
    # The backbone's entries come first in the official state dict, so the closed-form weights are numbered as ours are.
    model = build(name)
    with torch.no_grad():
        assert close(model(images()), TENSORS[f"{name}/logits_eval"], rtol=1e-9)
    check_training_step(model, name)


def test_every_network_of_the_folder_is_registered() -> None:
    if not NETWORKS:
        pytest.skip(f"no architectures at {FOLDER}")
    assert PLAIN
    short = {name.removeprefix("hsakd_").removesuffix("_aux") for name in NETWORKS}
    assert {f"cifar_{OUR_NAMES.get(name, name)}" for name in short} <= set(compressor_zoo.ARCHITECTURES)


def check_statistics(maps: list[Tensor], wanted: list[dict[str, Any]]) -> None:
    assert len(maps) == len(wanted)
    for one, numbers in zip(maps, wanted, strict=True):
        assert list(one.shape[1:]) == numbers["shape"]
        scale = numbers["l2"] / one.numel() ** 0.5  # the root mean square: what a mean near zero is compared with
        assert one.mean().item() == pytest.approx(numbers["mean"], rel=1e-9, abs=1e-9 * scale)
        assert one.std().item() == pytest.approx(numbers["std"], rel=1e-9)
        assert one.norm().item() == pytest.approx(numbers["l2"], rel=1e-9)
        assert one.min().item() == pytest.approx(numbers["min"], rel=1e-9, abs=1e-9 * scale)
        first = one.flatten()[: len(numbers["first"])]
        assert first.tolist() == pytest.approx(numbers["first"], rel=1e-9, abs=1e-9 * scale)


def check_training_step(model: ZooNetwork, name: str) -> None:
    """Loss and gradients of one batch whose labels are 0, 1, 2, ..., with the batch's own statistics."""
    wanted = NETWORKS[name]["train_mode"]
    logits = model.train()(images())
    assert close(logits, TENSORS[f"{name}/logits_train"], rtol=1e-8)
    loss = F.cross_entropy(logits, torch.arange(len(logits)))
    assert loss.item() == pytest.approx(wanted["loss_ce_labels_arange"], rel=1e-9)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    norms = torch.stack([gradient.norm() for gradient in gradients if gradient is not None])
    assert len(norms) == len(gradients)
    assert norms.norm().item() == pytest.approx(wanted["grad_norm_all"], rel=1e-6)
    assert norms[0].item() == pytest.approx(wanted["grad_norm_first_conv"], rel=1e-6)
