"""The maps and pre-activation maps that the networks of the zoo hand out."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from zoo_models import create, each_family, images


@each_family
def test_taps_do_not_change_the_result_and_preacts_are_asked_for(name: str) -> None:
    model = create(name)
    x = images()
    with torch.no_grad():
        features = model.forward_features(x)
        final_map, maps, none = model.forward_taps(x)
        same, same_maps, preacts = model.forward_taps(x, preacts=True)
    assert none == []
    assert len(maps) == len(preacts) == len(model.feature_info)
    assert torch.equal(features, final_map)
    assert torch.equal(features, same)
    assert all(torch.equal(one, other) for one, other in zip(maps, same_maps, strict=True))


@each_family
def test_intermediates_are_the_maps_of_the_taps(name: str) -> None:
    model = create(name)
    x = images(16)
    with torch.no_grad():
        final_map, maps, _ = model.forward_taps(x)
        got_final, got = model.forward_intermediates(x)
        assert torch.equal(got_final, final_map)
        assert all(torch.equal(one, other) for one, other in zip(got, maps, strict=True))
        for one, other in zip(
            model.forward_intermediates(x, indices=2, intermediates_only=True), maps[-2:], strict=True
        ):
            assert torch.equal(one, other)
        stopped, (chosen,) = model.forward_intermediates(x, indices=[1], stop_early=True)
        assert torch.equal(stopped, maps[1])
        assert torch.equal(chosen, maps[1])
        got_final, (last,) = model.forward_intermediates(x, indices=[-1])
        assert torch.equal(got_final, final_map)
        assert torch.equal(last, maps[-1])


@each_family
def test_modules_named_by_feature_info_put_out_the_maps(name: str) -> None:
    model = create(name)
    seen: list[Tensor] = []
    for info in model.feature_info:
        model.get_submodule(str(info["module"])).register_forward_hook(lambda *args: seen.append(args[-1].clone()))
    with torch.no_grad():
        _, maps, _ = model.forward_taps(images(), preacts=True)
    assert [one.shape for one in seen] == [one.shape for one in maps]
    assert all(torch.equal(one, other) for one, other in zip(seen, maps, strict=True))


@each_family
@pytest.mark.parametrize("indices", [None, (1, 2), (-1,)])
def test_features_only_gives_the_maps_and_keeps_nothing_else(name: str, indices: tuple[int, ...] | None) -> None:
    kwargs = {} if indices is None else {"out_indices": indices}
    whole = create(name)
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, **kwargs)
    x = images(16)
    _, maps, _ = whole.train().forward_taps(x)
    wanted = maps if indices is None else [maps[index] for index in indices]
    got = model.train()(x)
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert model.feature_info.channels() == [one.shape[1] for one in wanted]
    sum(one.sum() for one in got).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_unknown_output_format_is_refused() -> None:
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', got 'NLC'"):
        create("cifar_resnet8").forward_intermediates(images(8), output_fmt="NLC")


@pytest.mark.parametrize("name", ["cifar_resnet8", "cifar_resnet50", "cifar_shufflenetv1"])
def test_map_is_the_activated_preact(name: str) -> None:
    with torch.no_grad():
        _, maps, preacts = create(name).forward_taps(images(), preacts=True)
    for one, preact in zip(maps[1:], preacts[1:], strict=True):
        assert preact.min() < 0
        assert torch.equal(one, preact.relu())


def test_preact_of_shufflenetv2_is_the_map_before_activation_and_shuffle() -> None:
    with torch.no_grad():
        _, maps, preacts = create("cifar_shufflenetv2").forward_taps(images(), preacts=True)
    for one, preact in zip(maps[1:], preacts[1:], strict=True):
        half = preact.shape[1] // 2
        assert torch.equal(one[:, 0::2], preact[:, :half])
        assert torch.equal(one[:, 1::2], preact[:, half:].relu())


@each_family
def test_asking_for_preacts_moves_batchnorm_statistics_once_and_by_the_same(name: str) -> None:
    plain = create(name).train()
    tapped = copy.deepcopy(plain)
    x = images()
    plain(x)
    tapped.forward_taps(x, preacts=True)
    moved = tapped.state_dict()
    assert all(torch.equal(value, moved[key]) for key, value in plain.state_dict().items())
    counts = [value.item() for key, value in moved.items() if key.endswith("num_batches_tracked")]
    assert set(counts) == {1}


def test_preacts_of_a_wide_resnet_equal_the_next_batchnorm_of_its_maps() -> None:
    model = create("cifar_wrn_16_2")
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    with torch.no_grad():
        final_map, maps, preacts = model.forward_taps(images(), preacts=True)
        following = (nn.Identity(), model.block2.layer[0].bn1, model.block3.layer[0].bn1, model.bn1)
        for norm, one, preact in zip(following, maps, preacts, strict=True):
            assert torch.equal(norm(one), preact)
    assert torch.equal(final_map, preacts[-1].relu())


def test_gradient_flows_from_a_preact_into_the_stages_before_it() -> None:
    for name in ("cifar_resnet8", "cifar_wrn_16_1", "cifar_vgg8", "cifar_shufflenetv2", "cifar_mobilenetv2_half"):
        model = create(name)
        model.forward_taps(images(), preacts=True)[2][1].square().sum().backward()
        reached = {key for key, parameter in model.named_parameters() if parameter.grad is not None}
        first_conv = timm.models.get_pretrained_cfg(name).first_conv
        assert f"{first_conv}.weight" in reached
        assert not any(key.startswith(model.stage_modules[-1][-1]) for key in reached)


@each_family
def test_pruned_network_ends_at_the_furthest_kept_map(name: str) -> None:
    whole, x = create(name), images(16)
    last = len(whole.feature_info) - 1
    with torch.no_grad():
        logits = whole(x)
        _, maps, _ = whole.forward_taps(x)
        for kept, prune_norm in ((1, False), (last, True)):
            model = copy.deepcopy(whole)
            assert model.prune_intermediate_layers([kept], prune_norm=prune_norm) == [kept]
            # Where nothing stands between last stage and head there is no norm to drop, and the map is the same.
            assert torch.equal(model(x), maps[kept])
        model = copy.deepcopy(whole)
        assert model.prune_intermediate_layers(2, prune_head=False) == [last - 1, last]
        assert torch.equal(model(x), logits)
