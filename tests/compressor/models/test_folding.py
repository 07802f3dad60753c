"""Folded BatchNorms: found where it is exact and nowhere else, on networks of the zoo, of timm and of strangers."""

import warnings
from functools import partial

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput
from compressor.models.catalogue import resolve_name
from compressor.models.create import build
from compressor.models.folding import fold, foldable
from compressor.models.taps import TappedModel, Wanted


def stir(net: nn.Module) -> nn.Module:
    """Give every norm statistics and weights as training leaves them: far from 0 and 1."""
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            values = [*module.buffers(recurse=False), *module.parameters(recurse=False)]
            for value in values:
                if value.dim():
                    value.data.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return net.eval().requires_grad_(False)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's, about sizes
        net = build(resolve_name(name), num_classes=10, image_size=32, pretrained=False).module
    return stir(net)


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def shown(tapped: TappedModel, pictures: Tensor, wanted: Wanted) -> list[Tensor]:
    with torch.no_grad():
        output: ModelOutput = tapped(pictures, wanted)
    maps = [*output.stages, *(output.preacts if wanted.preacts else ())] if wanted.stages else []
    return [output.logits, *maps, *([output.embedding] if wanted.embedding else [])]


def pairs_of(net: nn.Module) -> dict[str, str]:
    return foldable(net, [partial(net, images().to(next(net.parameters()).dtype))])


def furthest(before: list[Tensor], after: list[Tensor]) -> float:
    return max(float((one - other).abs().max() / one.abs().max()) for one, other in zip(before, after, strict=True))


FOLDED = {
    "resnet32x4": 34,  # all of them
    "wrn_40_2": 18,  # of 37: the others stand in front of their convolution
    "cifar_vgg13": 10,
    "shufflenetv2": 56,
    "resnet18": 20,
    "efficientnet_lite0": 49,
    "densenet121": 59,  # the others take maps that several convolutions made
    "vit_tiny_patch16_224": 0,
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded_networks_show_what_they_showed(name: str) -> None:
    net = network(name)
    tapped, pictures = TappedModel(net, owner="teacher"), images()
    everything = Wanted(stages=True, preacts=tapped.has_preacts(pictures), embedding=True)
    asked = [Wanted(), everything]
    shown(tapped, pictures, everything)  # finds out where its maps are
    pairs = foldable(net, [partial(shown, tapped, pictures, wanted) for wanted in asked])
    assert len(pairs) == FOLDED[name]
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        form = TappedModel(fold(net.to(dtype), pairs), owner="teacher")
        for wanted in asked:
            before, after = (shown(one, pictures.to(dtype), wanted) for one in (tapped, form))
            assert furthest(before, after) < tolerance


def test_folding_leaves_the_network_and_shares_what_it_does_not_change() -> None:
    net = network("cifar_wrn_16_1")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    form = fold(net, pairs_of(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    kept = {name: value for name, value in form.named_parameters() if name in before}
    own = [name for name, value in kept.items() if value.data_ptr() != net.get_parameter(name).data_ptr()]
    assert own == [f"block{stage}.layer.{block}.conv1.weight" for stage in (1, 2, 3) for block in (0, 1)]
    assert form.get_buffer("bn1.running_mean") is net.get_buffer("bn1.running_mean")
    assert not any(value.requires_grad for value in form.parameters())


class Case(nn.Module):
    """A convolution and a norm, joined by a function that a test gives."""

    def __init__(self, convolution: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3) if convolution is None else convolution
        self.bn = nn.BatchNorm2d(4) if norm is None else norm

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.bn(self.conv(pictures))
        return answer


class Beside(Case):
    def forward(self, pictures: Tensor) -> Tensor:
        made = self.conv(pictures)
        answer: Tensor = self.bn(made) + made
        return answer


class Between(Case):
    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.bn(F.relu_(self.conv(pictures)))
        return answer


class Twice(Case):
    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.bn(self.conv(pictures)) + self.bn(self.conv(pictures + 1))
        return answer


class Measured(Case):
    def forward(self, pictures: Tensor) -> Tensor:
        made = self.conv(pictures)
        assert made.dim() == made.ndim == 4
        answer: Tensor = self.bn(made) * made.shape[1] * made.size(2)
        return answer


class Standardised(nn.Conv2d):
    def forward(self, pictures: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm()
        return F.conv2d(pictures, weight, self.bias)


def watched(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _module, _inputs, output: output + 1)
    return module


@pytest.mark.parametrize(
    "net",
    [
        Beside(),
        Between(),
        Twice(),
        Case(Standardised(3, 4, 3)),
        Case(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
        Case(watched(nn.Conv2d(3, 4, 3))),
        Case(norm=nn.BatchNorm2d(4, track_running_stats=False)),
        Case(norm=nn.GroupNorm(2, 4)),
        Case(nn.ConvTranspose2d(3, 4, 3)),
    ],
    ids=["read beside", "changed between", "used twice", "standardised", "parametrised", "hook", "no statistics",
         "another norm", "transposed"],
)  # fmt: skip
def test_what_would_not_be_exact_stays_as_it_is(net: nn.Module) -> None:
    assert pairs_of(stir(net)) == {}


def test_a_map_that_somebody_reads_stays_as_it_is() -> None:
    net = stir(Case())
    assert pairs_of(net) == {"conv": "bn"}

    def reading() -> list[Tensor]:
        mapped = net.get_submodule("conv")(images())
        return [mapped, net.get_submodule("bn")(mapped)]

    assert foldable(net, [partial(net, images()), reading]) == {}


@pytest.mark.parametrize(
    "net",
    [
        Case(nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect", bias=False)),
        Case(nn.Conv2d(3, 6, 3, groups=3, dilation=2), nn.BatchNorm2d(6, affine=False)),
        Case(norm=BatchNormAct2d(4, act_layer=nn.SiLU)),
        Measured(),
    ],
    ids=["stride and border", "groups, no weights of the norm", "norm with activation", "shape read"],
)
def test_odd_pairs_are_folded_exactly(net: nn.Module) -> None:
    net = stir(net).double()
    assert pairs_of(net) == {"conv": "bn"}
    form = fold(net, {"conv": "bn"})
    assert not any(isinstance(module, nn.BatchNorm2d) for module in form.modules())
    assert torch.allclose(form(images().double()), net(images().double()), rtol=1e-12, atol=1e-12)


def test_a_norm_with_two_names_is_replaced_under_both() -> None:
    net = stir(Case())
    net.alias = net.bn
    form = fold(net, pairs_of(net))
    assert form.get_submodule("alias") is form.get_submodule("bn")
    assert isinstance(form.get_submodule("bn"), nn.Identity)


def test_finding_leaves_mode_and_hooks_as_they_were() -> None:
    net = network("resnet18").train()
    pairs_of(net)
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
