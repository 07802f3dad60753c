"""Tails of networks that do not make their own: found by a probing pass, copied, and drawn afresh."""

from collections.abc import Callable
from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

from compressor.distiller import NetworkSpec
from compressor.errors import PluginError, UnsupportedPair
from compressor.models.specs import network_spec
from compressor.models.tails import ChainTail, tail_of
from compressor.models.taps import TappedModel, Wanted

SIDE = 32
SHAPE = (3, SIDE, SIDE)
SPREAD = (
    "resnet18",
    "resnet50",
    "resnet50d",
    "convnext_atto",
    "regnetx_002",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "densenet121",
)
each_network = pytest.mark.parametrize("name", SPREAD)


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5).eval()


@cache
def maps(name: str) -> tuple[Tensor, ...]:
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return TappedModel(network(name), owner="student")(images, Wanted(stages=True)).stages


def spec(net: nn.Module, **wanted: bool) -> NetworkSpec:
    return network_spec(TappedModel(net, owner="student"), "net", SHAPE, wanted=Wanted(stages=True, **wanted))


@each_network
def test_stages_in_the_middle_and_at_the_end_have_tails_to_the_width_of_the_head(name: str) -> None:
    for stage in (1, len(maps(name)) - 2, len(maps(name)) - 1):
        tail = tail_of(network(name), stage, SHAPE, name=name)
        one = maps(name)[stage].clone().requires_grad_()
        vectors = tail(one)
        assert vectors.shape == (2, tail.width) == (2, final_map(name).shape[1])
        vectors.square().sum().backward()
        assert one.grad is not None
        assert one.grad.abs().max() > 0
        assert all(parameter.grad is not None for parameter in tail.parameters())


@each_network
def test_last_tail_keeps_the_size_of_the_last_map(name: str) -> None:
    last = len(maps(name)) - 1
    for one in (maps(name)[-1], torch.randn(2, maps(name)[-1].shape[1], 4, 6)):
        walked = tail_of(network(name), last, SHAPE, name=name).layers(one)
        assert walked.shape[-2:] == one.shape[-2:]


def test_tail_of_a_resnet_is_made_of_its_stages_alone() -> None:
    name = "resnet18"
    for stage, behind in ((1, ("layer2", "layer3", "layer4")), (3, ("layer4",))):
        tail = tail_of(network(name), stage, SHAPE, name=name)
        wanted = [value.shape for part in behind for value in network(name).get_submodule(part).parameters()]
        assert [value.shape for value in tail.parameters()] == wanted
    last = [value.shape for value in tail_of(network(name), 4, SHAPE, name=name).parameters()]
    own = [value.shape for value in network(name).layer4.parameters()]
    assert last == [torch.Size([256, 512, 1, 1]), torch.Size([256]), torch.Size([256]), *own]


@each_network
def test_weights_are_drawn_afresh_and_the_network_stays_as_it_was(name: str) -> None:
    net = network(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    trained = {value.flatten()[0].item() for key, value in before.items() if value.dim() > 1}
    one, two = (tail_of(net, 1, SHAPE, name=name) for _ in range(2))
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        assert first.isfinite().all()
        assert first.requires_grad
        if first.dim() > 1:
            assert not torch.equal(first, second)
            assert first.flatten()[0].item() not in trained
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_draws_come_from_the_global_generator_alone() -> None:
    net = network("resnet18")  # made before, as its own weights are drawn too
    first, second = [], []
    for values in (first, second):
        torch.manual_seed(3)
        values += tail_of(net, 4, SHAPE, name="x").parameters()
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_tail_can_be_drawn_anew() -> None:
    tail = tail_of(network("resnet18"), 4, SHAPE, name="x")
    before = [value.clone() for value in tail.parameters() if value.dim() > 1]
    tail.reset_parameters()
    assert not any(torch.equal(*two) for two in zip(before, [v for v in tail.parameters() if v.dim() > 1], strict=True))


def test_branch_scales_start_near_zero() -> None:
    scales = [
        value
        for key, value in tail_of(network("convnext_atto"), 1, SHAPE, name="x").named_parameters()
        if key.endswith("gamma")
    ]
    assert len(scales) == 8
    assert all((scale == 1e-6).all() for scale in scales)


def test_statistics_of_the_trained_network_are_not_taken_over() -> None:
    net = Plain()
    net.body[1].running_mean.fill_(3.0)
    tail = tail_of(net, 0, SHAPE, name="plain")
    assert all((value == 0).all() for key, value in tail.state_dict().items() if "running_mean" in key)


def test_network_without_any_interface_is_walked_through_its_modules() -> None:
    # The stem is the first map, the body's last module the second: the tail behind the first is the body.
    tail = tail_of(Plain(), 0, SHAPE, name="plain")
    assert isinstance(tail, ChainTail)
    assert [type(layer).__name__ for layer in tail.layers] == ["Sequential", "Conv2d"]
    assert tail(torch.randn(2, 4, SIDE, SIDE)).shape == (2, 6)


@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 224), ("swin_tiny_patch4_window7_224", 224), ("hrnet_w18_small", 64)]
)
def test_network_whose_layers_are_no_chain_is_refused(name: str, side: int) -> None:
    with pytest.raises(UnsupportedPair, match=f"{name} cannot have branches: .* stage 1 are not one chain of modules"):
        tail_of(network(name), 1, (3, side, side), name=name)


@pytest.mark.parametrize("function", [torch.relu, torch.relu_])
def test_layers_joined_by_more_than_modules_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    # relu_ writes into the very tensor that the next module gets: only the values tell.
    with pytest.raises(UnsupportedPair, match="stage 0 are not one chain"):
        tail_of(Plain(between=function), 0, SHAPE, name="plain")


def test_weight_that_nobody_can_draw_is_refused() -> None:
    with pytest.raises(UnsupportedPair, match=r"branch behind stage 0: nothing tells how the weight 0\.1\.bias"):
        tail_of(Plain(shifted=True), 0, SHAPE, name="plain")


def test_network_of_one_map_and_stage_that_is_not_there_are_refused() -> None:
    with pytest.raises(UnsupportedPair, match="plain shows one map only"):
        tail_of(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.LazyLinear(2)).eval(), 0, SHAPE, name="plain")
    with pytest.raises(UnsupportedPair, match="plain has stages 0 to 1, not 2"):
        tail_of(Plain(), 2, SHAPE, name="plain")


def test_spec_makes_tails_and_copies_the_classifier_where_they_are_wanted() -> None:
    net = Plain()
    found = spec(net, tails=True, classifier=True)
    assert found.make_tail(1).width == 6
    copy = found.copy_classifier()
    assert torch.equal(copy.weight, net.head.weight)
    assert copy.weight.data_ptr() != net.head.weight.data_ptr()
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    with pytest.raises(PluginError, match="a tail of net was asked for but not declared"):
        spec(net).make_tail(1)
    with pytest.raises(PluginError, match="the classifier of net was asked for but not declared"):
        spec(net).copy_classifier()


def test_networks_of_the_zoo_make_their_own_tails() -> None:
    import compressor_zoo

    assert compressor_zoo.ARCHITECTURES
    net = timm.create_model("cifar_wrn_16_1", num_classes=5)
    assert type(spec(net, tails=True).make_tail(3)).__name__ == "Tail"


def test_classifier_that_is_no_linear_layer_is_refused() -> None:
    net = Plain()
    net.get_classifier = lambda: net.stem  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedPair, match="the classifier of net is a Conv2d, not one linear layer"):
        spec(net, classifier=True).copy_classifier()


def final_map(name: str) -> Tensor:
    with torch.no_grad():
        return network(name).forward_features(torch.zeros(2, *SHAPE))


class Shift(nn.Module):
    """Adds a weight that no `reset_parameters` draws."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Plain(nn.Module):
    """Two resolutions and a head, without the interfaces of timm."""

    def __init__(self, *, between: Callable[[Tensor], Tensor] = lambda x: x, shifted: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.between = between
        self.stem = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), Shift() if shifted else nn.BatchNorm2d(6))
        self.last = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 2)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.between(self.body(self.stem(images)))).mean((2, 3)))
