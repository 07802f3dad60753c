"""The zoo's recipes hold the papers' numbers, typed in here a second time from the published tables."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest

from compressor.config import recipes as recipe_files
from compressor.config.layers import Layer, Resolved, resolve
from compressor.config.recipes import Recipe, all_recipes
from compressor.config.settings import RunConfig, TrainingConfig
from compressor.engine.methods import method_config
from compressor.errors import UsageError
from compressor.models.catalogue import resolve_name
from compressor.registry import METHODS, load_method, names

# Table of SSKD's README: teacher, student, and the accuracies of teacher, student alone, and SSKD.
PAIRS = {
    "sskd-wrn_40_2-wrn_16_2": ("cifar_wrn_40_2", "cifar_wrn_16_2", "76.46", "73.64", "76.04"),
    "sskd-wrn_40_2-wrn_40_1": ("cifar_wrn_40_2", "cifar_wrn_40_1", "76.46", "72.24", "76.13"),
    "sskd-resnet56-resnet20": ("cifar_resnet56", "cifar_resnet20", "73.44", "69.63", "71.49"),
    "sskd-resnet32x4-resnet8x4": ("cifar_resnet32x4", "cifar_resnet8x4", "79.63", "72.51", "76.20"),
    "sskd-vgg13-vgg8": ("cifar_vgg13", "cifar_vgg8", "75.38", "70.68", "75.33"),
    "sskd-vgg13-mobilenetv2_half": ("cifar_vgg13", "cifar_mobilenetv2_half", "75.38", "65.79", "71.53"),
    "sskd-resnet50-mobilenetv2_half": ("cifar_resnet50", "cifar_mobilenetv2_half", "79.10", "65.79", "72.57"),
    "sskd-resnet50-vgg8": ("cifar_resnet50", "cifar_vgg8", "79.10", "70.68", "75.76"),
    "sskd-resnet32x4-shufflenetv1": ("cifar_resnet32x4", "cifar_shufflenetv1", "79.63", "70.77", "78.44"),
    "sskd-resnet32x4-shufflenetv2": ("cifar_resnet32x4", "cifar_shufflenetv2", "79.63", "73.12", "78.61"),
    "sskd-wrn_40_2-shufflenetv1": ("cifar_wrn_40_2", "cifar_shufflenetv1", "76.46", "70.77", "77.40"),
}
LIGHT = ("cifar_mobilenetv2_half", "cifar_shufflenetv1", "cifar_shufflenetv2")
SSKD_NUMBERS = {
    "weighting": "cifar",
    "kd_temperature": 4.0,
    "tf_temperature": 4.0,
    "ss_temperature": 0.5,
    "tf_ratio": 1.0,
    "ss_ratio": 0.75,
    "head_epochs": 60,
    "head_lr": 0.05,
    "head_milestones": [0.5, 0.75],
}
SSKD_WEIGHTS = {"ce_weight": 0.1, "kd_weight": 0.9, "tf_weight": 2.7, "ss_weight": 10.0}
AUTOMATIC = {"base", "cifar10", "cifar100", "digits", "light-student", "light-teacher"}


def resolved(recipe: str | None = None, **values: Any) -> Resolved:
    return resolve([Layer("test", {key.replace("__", "."): value for key, value in values.items()})], recipe=recipe)


def text_of(recipe: str) -> str:
    return files("compressor_zoo.recipes").joinpath(f"{recipe}.toml").read_text(encoding="utf-8")


def weights_of(config: RunConfig) -> dict[str, float]:
    """Return the weights that SSKD would use."""
    settings = method_config(load_method("sskd"), config.method.settings)
    return {key: settings.weight(key) for key in SSKD_WEIGHTS}


def steps_of(training: TrainingConfig) -> list[int]:
    return [round(share * training.epochs) for share in training.milestones]


def test_the_zoo_has_these_recipes_and_no_others() -> None:
    ours = {name: recipe for name, recipe in all_recipes().items() if recipe.package == "compressor_zoo.recipes"}
    assert len(PAIRS) == 11
    of_methods = {f"{name}-cifar100" for name in names(METHODS)} - {"sskd-cifar100"}
    assert {name for name, recipe in ours.items() if recipe.by_name} == set(PAIRS) | {"sskd-cifar100", "sskd-imagenet"}
    assert AUTOMATIC <= {name for name, recipe in ours.items() if not recipe.by_name} <= AUTOMATIC | of_methods
    assert all(recipe.summary and len(recipe.summary) <= 110 for recipe in ours.values())


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_pair_is_the_published_one(name: str) -> None:
    teacher, student, *accuracies = PAIRS[name]
    config = resolved(name).config
    assert (config.teacher.name, config.student.name, config.data.source) == (teacher, student, "torch/cifar100")
    assert resolve_name(teacher).registered == teacher
    assert resolve_name(student).registered == student
    assert config.method.name == "sskd"
    assert config.method.settings == SSKD_NUMBERS
    assert weights_of(config) == SSKD_WEIGHTS
    comment = next(line for line in text_of(name).splitlines() if "Published" in line)
    assert [word.strip(",.") for word in comment.split() if word[0].isdigit()] == accuracies


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_pair_is_trained_as_published(name: str) -> None:
    teacher, student, *_ = PAIRS[name]
    config = resolved(name).config
    for network, training in ((student, config.training), (teacher, config.teacher_training)):
        assert (training.epochs, training.batch_size, training.optimizer) == (240, 64, "sgd")
        assert training.lr == (0.01 if network in LIGHT else 0.05)
        assert (training.momentum, training.nesterov, training.weight_decay) == (0.9, False, 5e-4)
        assert (training.schedule, steps_of(training), training.decay) == ("multistep", [150, 180, 210], 0.1)
        assert (training.select, training.warmup_epochs, training.ema_decay) == ("last", 0, 0.0)
    assert (config.data.crop_padding, config.data.flip, config.data.val_split) == (4, True, 0.0)
    assert (config.data.shots, config.student.init, config.teacher.weights) == (None, "scratch", None)


def test_accuracies_of_the_pairs_have_the_mean_gain_the_paper_states() -> None:
    # CRD on the six pairs of unlike families; the abstract says that SSKD is 2.3 points ahead there.
    crd = {
        "sskd-vgg13-mobilenetv2_half": 68.49,
        "sskd-resnet50-mobilenetv2_half": 70.32,
        "sskd-resnet50-vgg8": 74.42,
        "sskd-resnet32x4-shufflenetv1": 75.46,
        "sskd-resnet32x4-shufflenetv2": 75.72,
        "sskd-wrn_40_2-shufflenetv1": 75.96,
    }
    gains = [float(PAIRS[name][-1]) - accuracy for name, accuracy in crd.items()]
    assert sum(gains) / len(gains) == pytest.approx(2.32, abs=0.01)


@pytest.mark.parametrize("data", ["torch/cifar10", "torch/cifar100", "hfds/uoft-cs/cifar100"])
@pytest.mark.parametrize("network", [*LIGHT, "mobilenetv2_half", "cifar_mobilenetv2_half_stride1"])
def test_light_networks_learn_at_one_hundredth_on_cifar_whichever_side_they_stand_on(data: str, network: str) -> None:
    one = resolved(data__source=data, teacher__name=network, student__name="resnet20").config
    other = resolved(data__source=data, teacher__name="resnet56", student__name=network).config
    assert (one.teacher_training.lr, one.training.lr) == (0.01, 0.05)
    assert (other.teacher_training.lr, other.training.lr) == (0.05, 0.01)


def test_light_networks_learn_at_the_common_rate_elsewhere() -> None:
    assert resolved(data__source="./flowers", student__name="shufflenetv2").config.training.lr == 0.05


def test_cifar10_is_trained_like_cifar100() -> None:
    ten, hundred = (resolved(data__source=f"torch/cifar{count}").config for count in (10, 100))
    assert ten.training == hundred.training
    assert ten.teacher_training == hundred.teacher_training
    assert ten.training.epochs == 240
    assert (ten.data.val_split, ten.data.crop_padding, ten.data.flip) == (0.0, 4, True)


def test_digits_are_neither_mirrored_nor_shifted_far() -> None:
    found = resolved()
    assert found.recipes[:2] == ("base", "digits")
    assert found.config.data.source == "digits"
    assert (found.config.data.flip, found.config.data.crop_padding) == (False, 1)


def test_own_data_gets_the_base_recipe_and_holds_a_tenth_out() -> None:
    found = resolved(data__source="./flowers")
    assert found.recipes == ("base",)
    assert found.config.data.val_split == 0.1
    assert found.origins["training.lr"] == "recipe base"


def test_imagenet_has_the_numbers_of_the_independent_re_implementation() -> None:
    config = resolved("sskd-imagenet").config
    assert (config.teacher.name, config.teacher.weights) == ("resnet34.tv_in1k", "pretrained")
    assert (config.student.name, config.student.init) == ("resnet18", "scratch")
    assert (config.data.source, config.data.image_size, config.data.val_split) == ("torch/imagenet", 224, 0.0)
    training = config.training
    assert (training.epochs, training.lr, steps_of(training), training.batch_size) == (100, 0.1, [30, 60, 90], 85)
    assert (training.momentum, training.weight_decay) == (0.9, 5e-4)
    changed = {"weighting": "imagenet", "head_epochs": 30, "head_lr": 0.1}
    head = config.method.settings["head_milestones"]
    assert [round(30 * share) for share in head] == [10, 20]
    assert config.method.settings == SSKD_NUMBERS | changed | {"head_milestones": head}
    assert weights_of(config) == SSKD_WEIGHTS | {"ce_weight": 1.0}


@pytest.mark.parametrize("name", sorted(AUTOMATIC | set(PAIRS) | {"sskd-cifar100", "sskd-imagenet"}))
def test_every_setting_of_a_method_is_one_the_method_has(name: str) -> None:
    tree = tomllib.loads(text_of(name))
    methods: Mapping[str, Mapping[str, Any]] = {
        key: value for key, value in tree.get("method", {}).items() if key != "name"
    }
    for method, settings in methods.items():
        made = method_config(load_method(method), settings)
        for key, value in settings.items():
            assert getattr(made, key) == (tuple(value) if isinstance(value, list) else value)


def test_defaults_of_sskd_are_the_numbers_of_its_recipe() -> None:
    settings = method_config(load_method("sskd"), {})
    assert {key: getattr(settings, key) for key in SSKD_NUMBERS} == SSKD_NUMBERS | {"head_milestones": (0.5, 0.75)}


def test_another_weight_can_be_set_on_top_of_a_recipe() -> None:
    config = resolved("sskd-vgg13-vgg8", method__ss_weight=5.0).config
    assert weights_of(config) == SSKD_WEIGHTS | {"ss_weight": 5.0}
    assert weights_of(resolved("sskd-vgg13-vgg8", method__weighting="imagenet").config)["ce_weight"] == 1.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"training.epoch": 3}, "recipe odd: unknown setting 'training.epoch'"),
        ({"training.epochs": "many"}, "training.epochs: .*'many' .*recipe odd"),
        ({"training.lr": -1.0}, r"training.lr must be > 0, got -1.0 \(from recipe odd\)"),
    ],
)
def test_a_recipe_with_a_wrong_key_or_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], said: str
) -> None:
    odd = Recipe(name="odd", summary="", package="elsewhere", values=values)
    monkeypatch.setattr(recipe_files, "all_recipes", lambda: {"odd": odd})
    with pytest.raises(UsageError, match=said):
        resolved("odd")


def test_an_unknown_recipe_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="no recipe named 'sskd-vgg13-vgg9'") as caught:
        resolved("sskd-vgg13-vgg9")
    assert "sskd-vgg13-vgg8" in str(caught.value.hint)


def test_a_recipe_that_applies_by_itself_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match="no recipe named 'cifar100'"):
        resolved("cifar100")


def test_what_the_user_says_of_the_running_method_wins_over_a_recipe_that_names_the_method() -> None:
    found = resolved("sskd-cifar100", method__head_epochs=2)
    assert found.config.method.settings == SSKD_NUMBERS | {"head_epochs": 2}
    assert found.origins["method.head_epochs"] == "test"
