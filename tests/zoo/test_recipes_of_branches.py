"""HSAKD's and HSSAKD's recipes hold their authors' numbers, typed in here a second time from the authors' code."""

from typing import Any

import pytest

from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.engine.methods import method_config
from compressor.registry import load_method

SHARED = {"ce_weight": 1.0, "kd_weight": 1.0, "branch_weight": 1.0, "kd_temperature": 3.0, "branch_temperature": 3.0}
NUMBERS: dict[str, dict[str, Any]] = {
    "hsakd": {
        **SHARED,
        "branch_epochs": 100,
        "branch_lr": 0.05,
        "branch_milestones": [0.3, 0.6, 0.9],
        "teacher_epochs": 240,
        "teacher_milestones": [0.625, 0.75, 0.875],
        "teacher_lr": 0.05,
    },
    "hssakd": {**SHARED, "joint_weight": 1.0},
}


def on_cifar(method: str, **values: str) -> RunConfig:
    given = {key.replace("__", "."): value for key, value in values.items()}
    return resolve([Layer("test", {"method.name": method, "data.source": "torch/cifar100", **given})]).config


@pytest.mark.parametrize("method", sorted(NUMBERS))
def test_numbers_are_the_authors_and_the_defaults(method: str) -> None:
    assert on_cifar(method).method.settings == NUMBERS[method]
    made = method_config(load_method(method), {})
    for key, value in NUMBERS[method].items():
        assert getattr(made, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("method", sorted(NUMBERS))
def test_both_train_as_published(method: str) -> None:
    training = on_cifar(method, student__name="cifar_resnet20").training
    assert (training.epochs, training.batch_size, training.lr, training.weight_decay) == (240, 64, 0.05, 5e-4)
    assert (training.momentum, training.nesterov, training.warmup_epochs) == (0.9, True, 0)
    assert [round(240 * share) for share in training.milestones] == [150, 180, 210]
    assert on_cifar(method, student__name="cifar_shufflenetv1").training.lr == 0.01


def test_the_trained_teacher_is_that_of_the_other_methods() -> None:
    assert on_cifar("hsakd").teacher_training == on_cifar("kd").teacher_training
