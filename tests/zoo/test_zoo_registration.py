"""What timm knows about the networks of the zoo, and the table in its README."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import compressor_zoo
from compressor_zoo.summary import architecture_table, count_macs


def test_all_networks_are_registered_with_timm() -> None:
    assert len(compressor_zoo.ARCHITECTURES) == 26
    assert set(compressor_zoo.ARCHITECTURES) == set(timm.list_models("cifar_*"))


def test_no_network_has_a_name_of_timm() -> None:
    ours = set(compressor_zoo.ARCHITECTURES)
    entry = timm.models._registry._model_entrypoints
    assert all(entry[name].__module__.startswith("compressor_zoo.") for name in ours)
    theirs = {name for name, builder in entry.items() if builder.__module__.startswith("timm.")}
    assert len(theirs) > 1000
    assert not ours & theirs
    assert timm.create_model("resnet50", num_classes=0).conv1.kernel_size == (7, 7)


@pytest.mark.parametrize("name", compressor_zoo.ARCHITECTURES)
def test_settings_name_the_layers_that_depend_on_the_data(name: str) -> None:
    settings = timm.models.get_pretrained_cfg(name)
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=7, in_chans=5)
    first, classifier = model.get_submodule(settings.first_conv), model.get_submodule(settings.classifier)
    assert isinstance(first, nn.Conv2d)
    assert first is next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert (first.in_channels, classifier.out_features) == (5, 7)
    assert classifier is model.get_classifier()
    assert (settings.input_size, settings.num_classes, settings.crop_pct) == ((3, 32, 32), 100, 1.0)
    assert settings.mean == (0.5071, 0.4866, 0.4409)
    assert settings.std == (0.2675, 0.2565, 0.2761)
    assert not settings.has_weights


@pytest.mark.parametrize("name", compressor_zoo.ARCHITECTURES)
def test_entry_point_target_is_an_attribute_of_its_module(name: str) -> None:
    builder = timm.models.model_entrypoint(name)
    assert getattr(sys.modules[builder.__module__], name) is builder


def test_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="widht"):
        timm.create_model("cifar_resnet8", widht=3)


def test_readme_shows_the_table_of_the_networks_as_they_are() -> None:
    readme = Path(__file__).parents[2] / "zoo" / "README.md"
    assert architecture_table() in readme.read_text(encoding="utf-8")


def test_multiply_adds_of_a_small_network_equal_a_count_by_hand() -> None:
    # 3x3 over 8x8 places, 3 to 4 channels in 1 group; the same side halved, 4 to 6 in 2 groups; then 6 to 5.
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    by_hand = 64 * 4 * 27 + 16 * 6 * 18 + 30
    assert count_macs(model, (3, 8, 8)) == by_hand
    assert model.training
