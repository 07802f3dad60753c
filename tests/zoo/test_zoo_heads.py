"""Images of other sizes, channel and class counts, and what stands behind the last map."""

import pytest
import torch
from torch import nn
from zoo_models import create, each_family, images


@each_family
@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_network_takes_images_of_many_sizes(name: str, side: int) -> None:
    model = create(name, num_classes=10)
    with torch.no_grad():
        final, maps, preacts = model.forward_taps(images(side), preacts=True)
        logits = model.forward_head(final)
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
    assert final.shape[1] == model.num_features
    assert [one.shape for one in preacts] == [one.shape for one in maps]
    reductions = [info["reduction"] for info in model.feature_info]
    if "vgg" in name and side == 64:
        reductions[-1] = 16  # the fourth pooling
    assert [tuple(one.shape[1:]) for one in maps] == [
        (info["num_chs"], *[max(1, side // int(reduction))] * 2)
        for info, reduction in zip(model.feature_info, reductions, strict=True)
    ]


def test_networks_take_images_of_imagenet_size() -> None:
    for name in ("cifar_resnet8", "cifar_wrn_16_1", "cifar_vgg8", "cifar_mobilenetv2_half"):
        with torch.no_grad():
            assert create(name)(images(224, batch=1)).shape == (1, 100)


def test_networks_take_images_that_are_not_square() -> None:
    for name in ("cifar_vgg8", "cifar_shufflenetv2"):
        with torch.no_grad():
            assert create(name)(torch.zeros(1, 3, 32, 48)).shape == (1, 100)


@each_family
def test_network_takes_other_channel_and_class_counts(name: str) -> None:
    model = create(name, num_classes=7, in_chans=1)
    assert model(images(16, channels=1)).shape == (2, 7)
    assert (model.num_classes, model.in_chans) == (7, 1)


@each_family
def test_forward_is_head_after_features(name: str) -> None:
    model = create(name)
    x = images()
    with torch.no_grad():
        features = model.forward_features(x)
        vector = model.forward_head(features, pre_logits=True)
        assert torch.equal(vector, features.mean((2, 3)))
        assert torch.equal(model(x), model.get_classifier()(vector))
    assert vector.shape == (2, model.head_hidden_size)


@each_family
def test_classifier_can_be_removed_and_replaced(name: str) -> None:
    model = create(name)
    x = images()
    keys = list(model.state_dict())
    with torch.no_grad():
        vector = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(0)
        assert isinstance(model.get_classifier(), nn.Identity)
        assert torch.equal(model(x), vector)
        model.reset_classifier(0, "")
        assert torch.equal(model(x), model.forward_features(x))
        model.reset_classifier(5, "max")
        features = model.forward_features(x)
        assert torch.equal(model.forward_head(features, pre_logits=True), features.amax((2, 3)))
        assert model(x).shape == (2, 5)
    assert model.num_classes == 5
    assert list(model.state_dict()) == keys


def test_drop_rate_acts_on_the_vector_in_training_only() -> None:
    model = create("cifar_resnet8", drop_rate=0.5)
    features = torch.ones(64, 64, 2, 2)
    assert torch.equal(model.forward_head(features, pre_logits=True), torch.ones(64, 64))
    dropped = model.train().forward_head(features, pre_logits=True)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
