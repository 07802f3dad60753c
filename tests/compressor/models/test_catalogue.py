"""What a name means, found without importing anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from compressor.errors import InputError, UsageError
from compressor.models.catalogue import plugin_names, resolve_name, short_names, timm_names
from compressor.models.create import build, create_model, default_size, multiply_adds, parameter_count


def test_names_read_from_the_sources_are_those_that_timm_lists() -> None:
    listed = {name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("timm.")}
    assert not listed & set(plugin_names())
    assert timm_names() == listed
    assert len(listed) > 500


def test_catalogue_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from compressor.models.catalogue import resolve_name, timm_names;"
        "resolve_name('resnet18'); resolve_name('resnet8'); len(timm_names());"
        "print(sorted({'torch', 'timm', 'compressor_zoo'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "kind", "registered", "display"),
    [
        ("resnet18", "timm", "resnet18", "resnet18"),
        ("resnet18.a1_in1k", "timm", "resnet18.a1_in1k", "resnet18"),
        ("timm/vgg13", "timm", "vgg13", "vgg13"),
        ("resnet32x4", "plugin", "cifar_resnet32x4", "resnet32x4"),
        ("cifar_resnet32x4", "plugin", "cifar_resnet32x4", "resnet32x4"),
        ("hf-hub:someone/some-model", "remote", "hf-hub:someone/some-model", "some-model"),
        ("local-dir:/a/b/student/", "remote", "local-dir:/a/b/student/", "student"),
        ("run:runs/mine", "run", "runs/mine", "mine"),
        ("package.module:make", "factory", "package.module:make", "make"),
        ("python:Net", "python", "python:Net", "Net"),
    ],
)
def test_name_stands_for(given: str, kind: str, registered: str, display: str) -> None:
    name = resolve_name(given)
    assert (name.given, name.kind, name.registered, name.display) == (given, kind, registered, display)


def test_name_of_two_networks_is_refused_with_both_spelled_out() -> None:
    with pytest.raises(UsageError, match="teacher 'vgg13' is ambiguous") as caught:
        resolve_name("vgg13", role="teacher")
    assert "cifar_vgg13" in str(caught.value)
    assert "timm/vgg13" in str(caught.value)
    assert caught.value.code == "model.ambiguous"


def test_every_ambiguous_short_name_is_a_timm_name_and_every_other_is_not() -> None:
    for short in short_names():
        if short in timm_names():
            with pytest.raises(UsageError, match="ambiguous"):
                resolve_name(short)
        else:
            assert resolve_name(short).kind == "plugin"


@pytest.mark.parametrize(
    ("given", "near"),
    [("resnet32x5", "resnet32x4"), ("shuflenetv2", "shufflenetv2"), ("resnet_18", "resnet18"), ("a/b", "hf-hub:a/b")],
)
def test_unknown_name_comes_with_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no student model '{given}'") as caught:
        resolve_name(given, role="student")
    assert near in str(caught.value.hint)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("name", "size"), [("resnet8", 32), ("resnet18", 224), ("run:x", 224), ("a.b:c", 224)])
def test_default_size_is_that_of_the_architecture(name: str, size: int) -> None:
    assert default_size(resolve_name(name)) == size


def test_networks_are_built_for_the_classes_and_the_size() -> None:
    zoo = create_model("resnet8", num_classes=7)
    assert zoo.training
    assert zoo(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    vit = create_model("vit_tiny_patch16_224", num_classes=3, image_size=32)
    assert vit(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    own = create_model("resnet18")
    assert own(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_plugin_network_names_the_package_that_readers_must_import() -> None:
    assert build(resolve_name("resnet8"), num_classes=3, image_size=8, pretrained=False).requires == ("compressor_zoo",)
    assert build(resolve_name("resnet18"), num_classes=3, image_size=32, pretrained=False).requires == ()


FACTORIES = """
from torch import nn
def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
def sized(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
def wrong(): return "a network"
"""


def test_factory_gets_the_class_count_when_it_takes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    assert create_model("made_up_networks:sized", num_classes=9)(torch.zeros(1, 3, 2, 2)).shape == (1, 9)
    assert create_model("made_up_networks:plain", num_classes=9)(torch.zeros(1, 3, 2, 2)).shape == (1, 4)
    with pytest.raises(InputError, match=r"'made_up_networks:wrong' returned str, not a torch\.nn\.Module"):
        create_model("made_up_networks:wrong")
    with pytest.raises(UsageError, match="cannot import 'made_up_networks:absent'"):
        create_model("made_up_networks:absent")
    with pytest.raises(UsageError, match="cannot import 'no_such_place:make'"):
        create_model("no_such_place:make")


def test_pretrained_weights_without_network_are_an_input_error() -> None:
    with pytest.raises(InputError, match="model 'resnet18' cannot be loaded") as caught:
        create_model("resnet18", pretrained=True)
    assert caught.value.exit_code == 3
    assert "--teacher-weights" in str(caught.value.hint)


def test_folder_without_a_student_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished student"):
        create_model(f"run:{tmp_path}")


def test_folder_that_asks_for_a_foreign_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "compress": {"requires": ["antigravity"]}}')
    with pytest.raises(InputError, match="asks to import 'antigravity'"):
        create_model(f"run:{tmp_path}")
    assert "antigravity" not in sys.modules


def test_parameters_and_multiply_adds_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=True), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 10)
    ).train()
    assert parameter_count(net) == 3 * 4 * 9 + 4 + 100 * 10 + 10
    assert multiply_adds(net, (3, 5, 5)) == 25 * 4 * 27 + 1000
    assert net.training
