"""What single families of the zoo promise: parts, initial weights, foreign checkpoints."""

import io
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo_models import create, each_family, images

from compressor_zoo.architectures.mobilenetv2 import CifarMobileNetV2, checkpoint_filter_fn
from compressor_zoo.architectures.resnet import CifarResNet
from compressor_zoo.architectures.shufflenetv1 import channel_shuffle
from compressor_zoo.architectures.wide_resnet import CifarWideResNet


def test_channel_shuffle_deals_the_groups_out_in_turn() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("name", ["cifar_shufflenetv1", "cifar_shufflenetv2"])
@pytest.mark.filterwarnings("ignore")  # that there is a newer way
def test_tracing_finds_no_operation_that_exporters_do_not_know(name: str) -> None:
    traced = torch.jit.trace(create(name), images())
    operations = {node.kind() for node in traced.inlined_graph.nodes()}
    assert "aten::_convolution" in operations
    assert "aten::channel_shuffle" not in operations


@each_family
@pytest.mark.filterwarnings("ignore")  # that there is a newer exporter
def test_every_family_can_be_written_as_onnx(name: str) -> None:
    pytest.importorskip("onnx")
    file = io.BytesIO()
    torch.onnx.export(create(name), (images(),), file, opset_version=17, dynamo=False)  # type: ignore[arg-type]  # any binary file
    assert file.tell() > 10_000


def test_vgg_pools_a_fourth_time_from_64_by_64_on() -> None:
    model = create("cifar_vgg8")
    with torch.no_grad():
        sides = {side: model.forward_features(images(side, batch=1)).shape[-1] for side in (8, 32, 63, 64, 128)}
    assert sides == {8: 1, 32: 4, 63: 7, 64: 4, 128: 8}


def test_state_dict_with_the_classifier_of_sskd_loads_after_the_filter() -> None:
    model = CifarMobileNetV2(num_classes=10)
    theirs = {key.replace("classifier.0.", "classifier."): value for key, value in model.state_dict().items()}
    assert "classifier.weight" in theirs
    CifarMobileNetV2(num_classes=10).load_state_dict(checkpoint_filter_fn(theirs))
    assert list(checkpoint_filter_fn(model.state_dict())) == list(model.state_dict())


def test_timm_loads_a_file_with_the_keys_of_sskd(tmp_path: Path) -> None:
    source = create("cifar_mobilenetv2_half", num_classes=10)
    torch.save(
        {key.replace("classifier.0.", "classifier."): value for key, value in source.state_dict().items()},
        tmp_path / "sskd.pth",
    )
    overlay = {"file": str(tmp_path / "sskd.pth"), "num_classes": 10}
    model = create("cifar_mobilenetv2_half", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=10)
    with torch.no_grad():
        assert torch.equal(model(images(8)), source(images(8)))


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_wrn_16_1", "cifar_vgg8", "cifar_mobilenetv2_half"])
def test_initial_convolutions_have_the_variance_of_the_official_code(name: str) -> None:
    for module in create(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            wanted = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(wanted, rel=0.1)
            assert module.weight.abs().max() > 2 * wanted  # normal, not uniform: that ends at 1.73


@pytest.mark.parametrize(
    ("name", "std", "bias_is_zero"),
    [
        ("cifar_resnet8", 1 / math.sqrt(3 * 64), False),
        ("cifar_wrn_16_1", 1 / math.sqrt(3 * 64), True),
        ("cifar_vgg8", 0.01, True),
        ("cifar_mobilenetv2_half", 0.01, True),
        ("cifar_shufflenetv1", 1 / math.sqrt(3 * 960), False),
    ],
)
def test_initial_classifier_is_that_of_the_official_code_also_after_a_reset(
    name: str, std: float, bias_is_zero: bool
) -> None:
    model = create(name)
    for _ in range(2):
        classifier = model.get_classifier()
        assert classifier.weight.std().item() == pytest.approx(std, rel=0.05)
        assert bool((classifier.bias == 0).all()) is bias_is_zero
        model.reset_classifier(90)


@pytest.mark.parametrize("depth", [2, 16, 21])
def test_depth_that_no_residual_network_has_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 2 .* got {depth}"):
        CifarResNet(depth)


@pytest.mark.parametrize("depth", [4, 18, 20])
def test_depth_that_no_wide_residual_network_has_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 4 .* got {depth}"):
        CifarWideResNet(depth, 1)


def test_stem_stride_of_mobilenet_is_one_or_two() -> None:
    with pytest.raises(ValueError, match="stem_stride must be 1 or 2, got 4"):
        CifarMobileNetV2(4)
