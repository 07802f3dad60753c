"""Tails of the zoo's networks: shapes, weights, gradient. Their values are tested in tests/oracles."""

import math

import pytest
import torch
from torch import nn
from zoo_models import create, each_family, images


@each_family
def test_every_stage_has_a_tail_from_its_map_to_a_vector(name: str) -> None:
    model = create(name)
    for side in (32, 8):
        final, maps, _ = model.forward_taps(images(side))
        for stage, one in enumerate(maps):
            tail = model.make_tail(stage).eval()
            walked = tail.rest(tail.stages(one))
            assert walked.shape == final.shape
            assert tail(one).shape == (2, tail.width)
            assert torch.allclose(tail(one), walked.mean((2, 3)))


def test_tail_of_vgg_pools_as_its_trunk_does() -> None:
    model = create("cifar_vgg8")
    for side in (8, 32, 64):
        with torch.no_grad():
            final, maps, _ = model.forward_taps(images(side))
            assert [model.make_tail(stage).stages(one).shape for stage, one in enumerate(maps)] == [final.shape] * 5


@each_family
def test_tail_behind_the_stem_is_all_stages_and_what_follows_them(name: str) -> None:
    model = create(name)
    trunk = [module for part in model.stage_modules for module in part] + list(model.tail_modules)
    wanted = [value.shape for module in trunk for value in model.get_submodule(module).state_dict().values()]
    assert [value.shape for value in model.make_tail(0).state_dict().values()] == wanted


@each_family
def test_weights_of_a_tail_are_its_own_and_random(name: str) -> None:
    model = create(name)
    last = len(model.stage_modules)
    ours = {parameter.data_ptr() for parameter in model.parameters()}
    first, second = model.make_tail(last), model.make_tail(last)
    assert not ours & {parameter.data_ptr() for parameter in first.parameters()}
    before = [value.clone() for value in first.parameters()]
    first.reset_parameters()
    for (key, one), other, earlier in zip(first.named_parameters(), second.parameters(), before, strict=True):
        assert one.requires_grad
        if one.dim() > 1:
            assert not torch.equal(one, other), key
            assert not torch.equal(one, earlier), key


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_wrn_16_1", "cifar_vgg8", "cifar_mobilenetv2_half"])
def test_convolutions_of_a_tail_start_as_those_of_the_network(name: str) -> None:
    tail = create(name).make_tail(1)
    tail.reset_parameters()
    for module in tail.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            wanted = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(wanted, rel=0.1)


def test_gradient_of_a_tail_reaches_the_trunk() -> None:
    model = create("cifar_resnet8").train()
    model.make_tail(1)(model.forward_taps(images(8))[1][1]).sum().backward()
    assert model.conv1.weight.grad is not None
    assert model.layer2[0].conv1.weight.grad is None


@pytest.mark.parametrize("stage", [-1, 4])
def test_stage_that_is_not_there_is_refused(stage: int) -> None:
    with pytest.raises(ValueError, match=rf"stage must be in \[0, 3\], got {stage}"):
        create("cifar_resnet8").make_tail(stage)


def test_pruned_network_is_refused() -> None:
    model = create("cifar_resnet8")
    model.prune_intermediate_layers([2])
    with pytest.raises(ValueError, match="CifarResNet was pruned: nothing stands behind stage 2"):
        model.make_tail(1)
