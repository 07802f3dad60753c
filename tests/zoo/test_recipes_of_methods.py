"""The recipe of a method on CIFAR-100 applies there, to that method alone, with the published numbers."""

from typing import Any

import pytest

from compressor.config.layers import Layer, Resolved, resolve
from compressor.config.recipes import all_recipes
from compressor.engine.methods import method_config
from compressor.registry import load_method

# The weights in the scripts of the benchmark RepDistiller, typed in here a second time.
BENCHMARK: dict[str, dict[str, Any]] = {
    "at": {"at_weight": 1000.0, "power": 2.0},
    "sp": {"sp_weight": 3000.0},
    "pkt": {"pkt_weight": 30000.0},
    "rkd": {"distance_weight": 25.0, "angle_weight": 50.0},
    "cc": {"form": "neighbours", "cc_weight": 0.02, "feature_dim": 128},
    "nst": {"nst_weight": 50.0},
    "vid": {"vid_weight": 1.0, "initial_variance": 5.0, "least_variance": 1e-5},
}
# The same of those methods whose recipe names other weights of labels and logits, or whose authors' code is another.
OTHERS: dict[str, dict[str, Any]] = {
    "scratch": {"label_smoothing": 0.0},
    "kd": {"ce_weight": 0.1, "kd_weight": 0.9, "kd_temperature": 4.0},
    "fitnet": {"hint_weight": 100.0, "ce_weight": 1.0, "kd_weight": 0.0},
    "crd": {
        "crd_weight": 0.8,
        "feature_dim": 128,
        "negatives": 16384,
        "temperature": 0.07,
        "momentum": 0.5,
        "positive": "exact",
        "ce_weight": 1.0,
        "kd_weight": 0.0,
    },
    "simkd": {"ce_weight": 0.0, "kd_weight": 0.0, "feature_weight": 1.0, "reduction": 2},
}
OF_METHODS = sorted(
    name
    for name, recipe in all_recipes().items()
    if recipe.package == "compressor_zoo.recipes" and "method" in recipe.when
)


def resolved(method: str, data: str = "torch/cifar100") -> Resolved:
    return resolve([Layer("test", {"method.name": method, "data.source": data})])


@pytest.mark.parametrize("method", sorted(BENCHMARK))
def test_numbers_are_those_of_the_benchmark(method: str) -> None:
    found = resolved(method).config.method.settings
    assert found == BENCHMARK[method] | {"ce_weight": 1.0, "kd_weight": 0.0}


@pytest.mark.parametrize("method", sorted(set(BENCHMARK) - {"cc"}))
def test_defaults_are_the_benchmarks_too(method: str) -> None:
    # cc is left out: its default is the mean of the benchmark's loss over all orders of the batch.
    made = method_config(load_method(method), {})
    assert {key: getattr(made, key) for key in BENCHMARK[method]} == BENCHMARK[method]


@pytest.mark.parametrize("method", sorted(OTHERS))
def test_numbers_of_the_others_are_the_published_ones_and_the_defaults(method: str) -> None:
    assert resolved(method).config.method.settings == OTHERS[method]
    made = method_config(load_method(method), {})
    assert {key: getattr(made, key) for key in OTHERS[method]} == OTHERS[method]


@pytest.mark.parametrize("name", OF_METHODS)
def test_a_recipe_of_a_method_applies_to_that_method_on_cifar100_and_to_nothing_else(name: str) -> None:
    method = name.removesuffix("-cifar100")
    other = "at" if method != "at" else "sp"
    assert name in resolved(method).recipes
    assert name in resolved(method, "hfds/uoft-cs/cifar100").recipes
    assert name not in resolved(method, "digits").recipes
    assert name not in resolved(other).recipes


def test_seven_methods_of_the_benchmark_are_among_them() -> None:
    assert len(BENCHMARK) == 7
    assert {f"{method}-cifar100" for method in BENCHMARK} <= set(OF_METHODS)
