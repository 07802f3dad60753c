"""Taps over networks of many kinds: nothing about the answer changes, nothing is left behind."""

from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

from compressor.errors import InputError, UnsupportedPair
from compressor.models.specs import network_spec
from compressor.models.taps import TappedModel, Wanted, probing

# Plain, depth-wise and dense convolutions, attention with and without stages, hybrids; small ones, small images.
SPREAD = {
    "resnet10t": 32,
    "resnet18": 32,
    "mobilenetv3_small_050": 32,
    "efficientnet_b0": 32,
    "convnext_atto": 32,
    "regnetx_002": 32,
    "densenet121": 32,
    "vgg11_bn": 32,
    "vit_tiny_patch16_224": 32,
    "deit_tiny_distilled_patch16_224": 32,
    "swin_tiny_patch4_window7_224": 56,
    "mobilevit_xxs": 64,
    "edgenext_xx_small": 64,
    "poolformer_s12": 64,
    "cifar_wrn_16_1": 32,
    "cifar_shufflenetv2": 32,
}
EVERYTHING = Wanted(stages=True, embedding=True)


@cache
def network(name: str) -> nn.Module:
    import compressor_zoo

    assert compressor_zoo.ARCHITECTURES
    torch.manual_seed(0)
    fixed = {"img_size": SPREAD[name]} if name.startswith(("vit", "deit", "swin")) else {}
    net = timm.create_model(name, num_classes=5, **fixed)
    for module in net.modules():  # BatchNorm as after training: its last one in a block often starts at zero
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def images(name: str, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, SPREAD[name], SPREAD[name], generator=torch.Generator().manual_seed(1))


def hooks_of(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


def classify(net: nn.Module, embedding: Tensor) -> Tensor:
    classifier = net.get_classifier()
    heads = classifier if isinstance(classifier, (tuple, list, nn.ModuleList)) else [classifier]
    logits: Tensor = heads[0](embedding)
    return logits


@pytest.mark.parametrize("name", list(SPREAD))
@torch.no_grad()
def test_logits_stages_and_embedding_are_those_of_the_network(name: str) -> None:
    net = network(name)
    seen = TappedModel(net, owner="student").eval()(images(name), EVERYTHING)
    wanted = net(images(name))
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    assert torch.allclose(seen.logits, wanted, rtol=1e-5, atol=1e-5)
    reference = net.forward_intermediates(images(name), output_fmt="NCHW", intermediates_only=True)
    assert len(seen.stages) == len(reference) >= 3
    assert all(stage.dim() == 4 for stage in seen.stages)
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(seen.stages, reference, strict=True))
    assert seen.embedding.dim() == 2
    if name == "deit_tiny_distilled_patch16_224":
        return  # its answer is the mean of two heads, each with a token of its own
    assert torch.allclose(classify(net, seen.embedding), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(SPREAD))
def test_nothing_is_left_behind(name: str) -> None:
    net = network(name)
    tapped = TappedModel(net, owner="student")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        tapped(images(name), EVERYTHING)
        tapped.has_preacts(images(name))
    assert hooks_of(net) == 0
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert set(tapped.state_dict()) == {f"net.{key}" for key in before}


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "cifar_shufflenetv2", "convnext_atto"])
def test_spec_tells_the_shapes_that_a_pass_gives(name: str) -> None:
    side = SPREAD[name]
    tapped = TappedModel(network(name), owner="student")
    spec = network_spec(tapped, name, (3, side, side), wanted=EVERYTHING)
    with torch.no_grad():
        seen = tapped(images(name), EVERYTHING)
    shapes = [(stage.channels, stage.height, stage.width) for stage in spec.stages]
    assert shapes == [tuple(stage.shape[1:]) for stage in seen.stages]
    assert spec.embedding_width == seen.embedding.shape[1]
    assert spec.num_classes == 5


def test_spec_holds_nothing_that_was_not_asked_for() -> None:
    spec = network_spec(TappedModel(network("resnet10t"), owner="student"), "x", (3, 32, 32), wanted=Wanted())
    assert (spec.stages, spec.preacts, spec.embedding_width) == ((), False, 0)


@pytest.mark.parametrize("name", ["resnet10t", "resnet18", "cifar_wrn_16_1"])
@torch.no_grad()
def test_preactivations_give_the_stages_once_they_are_activated(name: str) -> None:
    tapped = TappedModel(network(name), owner="student").eval()
    assert tapped.has_preacts(images(name))
    seen = tapped(images(name), Wanted(stages=True, preacts=True))
    assert len(seen.preacts) == len(seen.stages)
    apart = 0
    for number, (before, after) in enumerate(zip(seen.preacts, seen.stages, strict=True)):
        if number == 0 and name.startswith("cifar"):
            assert torch.equal(before, after)  # the stem's entry is the stem's map in both lists
        elif name.startswith("cifar_wrn"):
            continue  # its block's map is activated behind the next norm; compared with official numbers elsewhere
        else:
            assert torch.allclose(before.relu(), after, atol=1e-6)
            apart += int((before < 0).any())
    assert name.startswith("cifar") or apart == len(seen.stages)


def test_network_without_activation_at_its_stages_is_refused_with_its_role() -> None:
    tapped = TappedModel(network("vit_tiny_patch16_224"), owner="teacher").eval()
    assert not tapped.has_preacts(images("vit_tiny_patch16_224"))
    with pytest.raises(UnsupportedPair, match="the teacher does not show its stages before their activation"):
        tapped(images("vit_tiny_patch16_224"), Wanted(stages=True, preacts=True))


def test_gradient_flows_through_everything_that_is_tapped() -> None:
    torch.manual_seed(0)
    net = timm.create_model("resnet10t", num_classes=5)
    seen = TappedModel(net, owner="student").train()(images("resnet10t"), Wanted(True, True, True))
    for part in (seen.logits, seen.embedding, seen.stages[1], seen.preacts[2]):
        net.zero_grad()
        part.square().mean().backward(retain_graph=True)
        gradient = net.conv1[0].weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


class Plain(nn.Module):
    """A network as people write them: no method of timm's, functional pooling, one linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(inplace=True))
        self.third = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.third(self.second(self.first(images)))
        logits: Tensor = self.classifier(maps.mean((-1, -2)))
        return logits


@torch.no_grad()
def test_hooks_find_the_last_map_of_each_resolution_in_a_plain_network() -> None:
    net = Plain().eval()
    shown = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = TappedModel(net, owner="student").eval()(shown, Wanted(True, True, True))
    first = net.first(shown)
    second = net.second(first)
    third = net.third(second)
    by_hand = [first, second, third]
    assert [tuple(stage.shape[1:]) for stage in seen.stages] == [(4, 8, 8), (6, 4, 4), (8, 2, 2)]
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(seen.stages, by_hand, strict=True))
    assert torch.allclose(seen.preacts[0], net.first[1](net.first[0](shown)))
    assert torch.allclose(seen.preacts[1], net.second[0](first))  # before the in-place activation wrote over it
    assert torch.allclose(seen.embedding, third.mean((-1, -2)))
    assert torch.allclose(seen.logits, net(shown))
    assert hooks_of(net) == 0


def test_looking_at_a_network_in_training_moves_no_statistics_and_no_mode() -> None:
    net = Plain().train()
    net.first[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    spec = network_spec(TappedModel(net, owner="student"), "plain", (3, 8, 8), wanted=Wanted(True, True, True))
    assert (len(spec.stages), spec.preacts, spec.embedding_width) == (3, True, 8)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert (net.training, net.first[1].training, net.first[0].training) == (True, False, True)


def test_batch_statistics_move_once_a_pass() -> None:
    net = Plain().train()
    tapped = TappedModel(net, owner="student")
    shown = torch.randn(4, 3, 8, 8)
    network_spec(tapped, "plain", (3, 8, 8), wanted=Wanted(True, True, True))
    tapped(shown, Wanted(True, True, True))
    assert net.first[1].num_batches_tracked is not None
    assert int(net.first[1].num_batches_tracked) == 1


def test_probing_puts_modes_back_after_an_error() -> None:
    net = Plain().train()

    def fall() -> None:
        with probing(net):
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fall()
    assert all(module.training for module in net.modules())


def test_network_that_cannot_take_the_images_is_told_with_the_size() -> None:
    with pytest.raises(InputError, match="vit cannot take images of 3x48x48") as caught:
        network_spec(TappedModel(network("vit_tiny_patch16_224"), owner="student"), "vit", (3, 48, 48), wanted=Wanted())
    assert caught.value.hint == "--img-size N"


def test_images_too_small_for_a_network_are_refused_where_preacts_are_looked_for() -> None:
    tapped = TappedModel(network("convnext_atto"), owner="teacher")
    with pytest.raises(InputError, match="convnext_atto cannot take images of 3x8x8") as caught:
        network_spec(tapped, "convnext_atto", (3, 8, 8), wanted=Wanted(stages=True, preacts=True))
    assert (caught.value.exit_code, caught.value.hint) == (3, "--img-size N")


def test_network_without_a_linear_layer_has_no_embedding() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UnsupportedPair, match="the teacher has no linear classifier"):
        TappedModel(net, owner="teacher")(torch.zeros(1, 3, 8, 8), Wanted(embedding=True))
