"""Recipes of DKD, DIST, FT, AB, FSP, KDSVD, ReviewKD and OFA: the published numbers, typed in here a second time."""

from typing import Any

import pytest

from compressor.config.layers import Layer, resolve
from compressor.engine.methods import method_config
from compressor.registry import load_method

LABELS_ALONE = {"ce_weight": 1.0, "kd_weight": 0.0}
CIFAR = {
    "dkd": LABELS_ALONE | {"tckd_weight": 1.0, "nckd_weight": 8.0, "kd_temperature": 4.0, "warmup_epochs": 20},
    "dist": LABELS_ALONE | {"inter_weight": 2.0, "intra_weight": 2.0, "temperature": 4.0},
    "ft": LABELS_ALONE
    | {"ft_weight": 200.0, "form": "attention", "distance": "absolute"}
    | {"paraphraser_rate": 0.5, "paraphraser_epochs": 30, "paraphraser_lr": 0.01},
    "ab": LABELS_ALONE | {"ab_weight": 1.0, "margin": 1.0, "init_epochs": 30},
    "fsp": LABELS_ALONE | {"fsp_weight": 50.0, "init_epochs": 30},
    "reviewkd": LABELS_ALONE
    | {"review_weight": 1.0, "warmup_epochs": 20, "teacher_maps": "preacts", "middle_channels": 512},
    "kdsvd": {"ce_weight": 1.0, "directions": 1},
    "ofa": LABELS_ALONE | {"final_weight": 1.0, "exit_weight": 1.0, "target_power": 1.0, "temperature": 1.0},
}
DIGITS = {
    "ft": {"paraphraser_epochs": 3},
    "ab": {"init_epochs": 3},
    "fsp": {"init_epochs": 3},
    "dkd": {"warmup_epochs": 1},
    "reviewkd": {"warmup_epochs": 1},
}


def settings_of(method: str, data: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    found = resolve([Layer("test", {"method.name": method, "data.source": data})])
    return found.recipes, dict(found.config.method.settings)


@pytest.mark.parametrize("method", sorted(CIFAR))
@pytest.mark.parametrize("data", ["torch/cifar100", "hfds/uoft-cs/cifar100"])
def test_recipe_applies_by_itself_to_its_method_on_cifar100(method: str, data: str) -> None:
    recipes, settings = settings_of(method, data)
    assert f"{method}-cifar100" in recipes
    assert settings == CIFAR[method]


@pytest.mark.parametrize("method", sorted(CIFAR))
@pytest.mark.parametrize("data", ["torch/cifar10", "./flowers"])
def test_recipe_leaves_other_data_alone(method: str, data: str) -> None:
    recipes, settings = settings_of(method, data)
    assert f"{method}-cifar100" not in recipes
    assert settings == {}


@pytest.mark.parametrize("method", sorted(CIFAR))
def test_phases_and_warm_ups_are_short_on_the_digits(method: str) -> None:
    assert settings_of(method, "digits")[1] == DIGITS.get(method, {})


@pytest.mark.parametrize("method", sorted(CIFAR))
def test_defaults_are_the_numbers_of_the_recipe(method: str) -> None:
    # All but one: ReviewKD's pre-activations, which not every network has.
    defaults = method_config(load_method(method), {})
    others = {key: value for key, value in CIFAR[method].items() if getattr(defaults, key) != value}
    assert others == ({"teacher_maps": "preacts"} if method == "reviewkd" else {})
