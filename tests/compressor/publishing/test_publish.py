"""The published folder: whole, loadable by a stranger, honest in its texts."""

import dataclasses
import json
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors
import timm
import torch
from torch import nn

from compressor import storage
from compressor.errors import InputError, StorageError
from compressor.publishing import DataFacts, Publication, TeacherFacts, publish
from compressor.publishing.facts import public_command, public_name
from compressor.storage.faults import FailingOperations

FILES = ["LICENSE-NOTES.md", "README.md", "compress.json", "config.json", "model.safetensors"]
TEACHER = TeacherFacts(
    name="resnet34.a1_in1k",
    sha256="b" * 64,
    metrics={"top1": 91.8},
    parameters=21_300_000,
    hub_id="timm/resnet34.a1_in1k",
    license="apache-2.0",
)


class TinyNetwork(nn.Module):
    """A network that timm does not know."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, classes) logits."""
        logits: torch.Tensor = self.fc(self.conv(images).relu().mean((2, 3)))
        return logits


def facts(module: nn.Module, **changes: Any) -> Publication:
    return Publication(
        **{
            "module": module,
            "architecture": None,
            "class_names": ("rose", "tulip", "größe | <b>", "d", "e", "f", "g"),
            "input_size": (3, 16, 16),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.2, 0.3),
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "version": "0.1.0",
            "method": "kd",
            "recipe": "kd_flowers",
            "settings": {"temperature": 4.0, "kd_weight": 0.9},
            "data": DataFacts(name="./private/flowers"),
            "teacher": TEACHER,
            "seed": 3,
            "epochs": 30,
            "config_sha256": "c" * 64,
            "command": "compress distill -m kd -d ./private/flowers",
            "metrics": {"top1": 84.9, "top5": 97.25},
            "cost": {"seconds": 531.0},
            "license": "mit",
            **changes,
        }
    )


def tiny() -> TinyNetwork:
    torch.manual_seed(0)
    return TinyNetwork(7)


def randomised(name: str, **arguments: Any) -> nn.Module:
    """Build a timm network whose normalisation statistics and weights are not the initial ones."""
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    return model


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def front_matter(folder: Path) -> huggingface_hub.ModelCardData:
    return huggingface_hub.ModelCard.load(folder / "README.md").data


def test_a_vit_of_another_size_loads_in_a_fresh_process_from_a_difficult_path(tmp_path: Path):
    module = randomised("vit_tiny_patch16_224", img_size=64, num_classes=7)
    given = facts(module, architecture="vit_tiny_patch16_224", model_args={"img_size": 64}, input_size=(3, 64, 64))
    folder = tmp_path / "größe #1 ?@ 学 🎓" / "student"
    done = publish(given, folder)
    assert done.difference is not None
    assert done.difference <= 1e-6 * 100
    assert done.load == f"timm.create_model('local-dir:{folder}', pretrained=True)"
    assert names_in(folder) == FILES
    assert names_in(folder.parent) == ["student"]

    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(again(images), module.eval()(images), atol=1e-6)
    config = timm.data.resolve_model_data_config(again)
    assert (config["input_size"], config["interpolation"], config["crop_pct"]) == ((3, 64, 64), "bicubic", 0.9)
    assert (tuple(config["mean"]), tuple(config["std"])) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.3))
    assert again.pretrained_cfg["label_names"] == list(given.class_names)


def test_a_network_for_four_channels_loads_in_a_fresh_process(tmp_path: Path):
    module = randomised("mobilenetv3_small_050", num_classes=7, in_chans=4)
    given = facts(
        module,
        architecture="mobilenetv3_small_050.lamb_in1k",
        model_args={"in_chans": 4, "num_classes": 7},
        input_size=(4, 32, 32),
        mean=(0.5,) * 4,
        std=(0.2,) * 4,
    )
    publish(given, tmp_path / "student")
    config = json.loads((tmp_path / "student/config.json").read_text())
    assert config["architecture"] == "mobilenetv3_small_050"
    assert config["model_args"] == {"in_chans": 4}
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 7
    assert config["num_features"] == module.num_features
    assert config["global_pool"] == "avg"
    assert config["compress"] == {"requires": [], "version": "0.1.0"}


def test_a_network_that_its_name_does_not_build_is_refused_and_nothing_is_left(tmp_path: Path):
    module = randomised("resnet10t", num_classes=7)
    module.layer1[0].act2 = nn.Tanh()  # the weights fit, the answers do not
    with pytest.raises(InputError, match="answers differently when it is loaded again"):
        publish(facts(module, architecture="resnet10t", input_size=(3, 32, 32)), tmp_path / "student")
    assert names_in(tmp_path) == []


ARCHITECTURES: dict[str, tuple[str, dict[str, Any], tuple[int, int, int], tuple[str, ...]]] = {
    "residual": ("resnet10t", {}, (3, 32, 32), ()),
    "grey": ("resnet10t", {"in_chans": 1}, (1, 28, 28), ()),
    "hybrid": ("mobilevit_xxs", {}, (3, 64, 64), ()),
    "levit": ("levit_128s", {}, (3, 224, 224), ()),
    "other pooling": ("resnet10t", {"global_pool": "max"}, (3, 32, 32), ()),
    "not square": ("vit_tiny_patch16_224", {"img_size": [32, 64], "patch_size": 8}, (3, 32, 64), ()),
    "zoo": ("cifar_resnet8x4", {}, (3, 32, 32), ("compressor_zoo",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_more_architectures_load_in_a_fresh_process(tmp_path: Path, kind: str):
    name, arguments, size, requires = ARCHITECTURES[kind]
    if requires:
        __import__(requires[0])
    module = randomised(name, num_classes=7, **arguments)
    numbers = {"mean": (0.5,) * size[0], "std": (0.25,) * size[0]}
    given = facts(module, architecture=name, model_args=arguments, input_size=size, requires=requires, **numbers)
    done = publish(given, tmp_path / "student")
    assert done.difference is not None
    card = (tmp_path / "student/README.md").read_text()
    assert [f"import {package}" in card for package in requires] == [True] * len(requires)


@pytest.mark.slow
def test_a_network_of_the_users_own_is_checked_through_its_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n\n\ndef build(num_classes, width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(width, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("own_networks").build(7, width=6)
    given = facts(module, factory="own_networks:build", model_args={"width": 6})
    done = publish(given, tmp_path / "student")
    assert done.difference == 0
    assert "own_networks:build" in done.warnings[0]
    card = (tmp_path / "student/README.md").read_text()
    assert "from own_networks import build" in card
    assert "build(num_classes=7, width=6)" in card
    config = json.loads((tmp_path / "student/config.json").read_text())
    assert config["compress"]["factory"] == "own_networks:build"
    del sys.modules["own_networks"]


@pytest.mark.slow
def test_a_factory_that_only_this_process_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "typed_in", types.ModuleType("typed_in"))
    monkeypatch.setattr(sys.modules["typed_in"], "build", TinyNetwork, raising=False)
    given = facts(tiny(), factory="typed_in:build", model_args={"classes": 7})
    with pytest.raises(InputError, match=r"does not load in a fresh process: ModuleNotFoundError: .*typed_in"):
        publish(given, tmp_path / "student")
    assert names_in(tmp_path) == []


def test_a_factory_that_cannot_be_imported_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="cannot import json:no_such"):
        publish(facts(tiny(), factory="json:no_such"), tmp_path / "student")


def test_a_network_without_a_name_is_published_as_tensors_and_says_so(tmp_path: Path):
    module = tiny()
    done = publish(facts(module), tmp_path / "student")
    assert done.difference is None
    assert done.load is None
    assert "only its tensors could be checked" in done.warnings[0]
    with safetensors.safe_open(tmp_path / "student/model.safetensors", "pt") as file:
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118  # not a mapping
            name: value.shape for name, value in module.state_dict().items()
        }
    card = (tmp_path / "student/README.md").read_text()
    assert "This network (TinyNetwork) has no importable name" in card
    assert "timm.create_model" not in card


def test_equal_publications_give_equal_bytes_and_the_metadata_is_complete(tmp_path: Path):
    publish(facts(tiny()), tmp_path / "a")
    publish(facts(tiny()), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with safetensors.safe_open(tmp_path / "a/model.safetensors", "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "compress.version": "0.1.0",
            "compress.method": "kd",
            "compress.recipe": "kd_flowers",
            "compress.teacher": "resnet34.a1_in1k",
            "compress.teacher_sha256": "b" * 64,
            "compress.data": "flowers",
            "compress.seed": "3",
            "compress.config_sha256": "c" * 64,
            "compress.top1": "84.9000",
        }


def test_the_front_matter_is_understood_by_the_hub(tmp_path: Path):
    publish(facts(tiny(), data=DataFacts(name="hfds/org/flowers", hub_id="org/flowers")), tmp_path / "student")
    data = front_matter(tmp_path / "student")
    assert data.pipeline_tag == "image-classification"
    assert data.license == "mit"
    assert {"image-classification", "knowledge-distillation", "compress"} <= set(data.tags)
    assert data.datasets == ["org/flowers"]
    assert data.metrics == ["accuracy"]
    assert data.base_model == "timm/resnet34.a1_in1k"
    assert [(one.metric_name, one.metric_value) for one in data.eval_results] == [("top-1", 84.9), ("top-5", 97.25)]


def test_the_card_holds_what_a_reader_needs(tmp_path: Path):
    given = facts(tiny(), metrics={"top1": 84.9}, scratch_metrics={"top1": 78.1}, hardware="2 cores")
    publish(given, tmp_path / "student")
    card = (tmp_path / "student/README.md").read_text()
    assert "```sh\ncompress distill -m kd -d ./private/flowers\n```" in card
    assert "| teacher | 21,300,000 | 91.8 |" in card
    # 3*4*9 + 4 of the convolution, 4*7 + 7 of the linear layer
    assert "| student | 147 | 84.9 |" in card
    assert "| the same student without a teacher | 147 | 78.1 |" in card
    for words in ("temperature 4.0", "Recipe: `kd_flowers`", "Seed: 3", "n=1: no spread", "seconds 531", "2 cores"):
        assert words in card
    for words in ("(0.5, 0.4, 0.3)", "(0.2, 0.2, 0.3)", "bicubic", "3 x 16 x 16", "how far the figures vary"):
        assert words in card
    assert "num_classes" not in card  # timm drops the trained head in silence when it is given another number


def test_a_mean_over_seeds_is_named_as_such(tmp_path: Path):
    publish(facts(tiny(), seeds=3), tmp_path / "student")
    assert front_matter(tmp_path / "student").eval_results[0].metric_name == "top-1 (mean of 3 seeds)"
    assert "the mean of 3 seeds" in (tmp_path / "student/README.md").read_text()


def test_no_local_path_becomes_a_base_model_a_dataset_or_a_teacher_name(tmp_path: Path):
    teacher = TeacherFacts(name="local-dir:/home/me/secret/resnet18")
    given = facts(tiny(), teacher=teacher, data=DataFacts(name="/home/me/secret/flowers"), command="compress distill")
    publish(given, tmp_path / "student")
    for name in FILES:
        assert b"secret" not in (tmp_path / "student" / name).read_bytes()
    data = front_matter(tmp_path / "student")
    assert data.base_model is None
    assert data.datasets is None
    for hub_id in ("/home/me/x", "./x/y", "x", "a/b/c", "a\\b", "C:/x", "", "a/b\n"):
        with pytest.raises(InputError, match="must be organisation/name"):
            TeacherFacts(name="t", hub_id=hub_id)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("torch/cifar100", "torch/cifar100"),
        ("hf-hub:org/name", "hf-hub:org/name"),
        ("resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("run:runs/a/student", "student"),
        ("local-dir:x/y", "y"),
        ("~/data/flowers", "flowers"),
        ("../flowers/", "flowers"),
        ("C:\\data\\flowers", "flowers"),
        ("/", "local"),
    ],
)
def test_public_names_tell_nothing_of_the_machine(given: str, shown: str):
    assert public_name(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("compress distill -d /home/me/flowers --out ~/x/y", "compress distill -d .../flowers --out .../y"),
        (
            "compress distill --data='/q w/e r' -t local-dir:/srv/t",
            "compress distill --data='.../e r' -t local-dir:.../t",
        ),
        ("--set data.directory=/a/b\\ c/d\\ e -m kd", "--set data.directory=.../d\\ e -m kd"),
        ("C:\\data\\flowers ~bob/x", ".../flowers .../x"),
        ("compress distill -d ./private/x -t hf-hub:a/b", "compress distill -d ./private/x -t hf-hub:a/b"),
        ("see https://huggingface.co/a/b or torch/cifar100", "see https://huggingface.co/a/b or torch/cifar100"),
    ],
)
def test_absolute_paths_in_a_command_are_shortened_and_nothing_else_is(given: str, shown: str):
    assert public_command(given) == shown


def test_a_command_and_settings_with_paths_of_the_machine_say_that_they_were_shortened(tmp_path: Path):
    given = facts(tiny(), command="compress distill -d /home/me/secret/x", settings={"bank": "/home/me/secret/b"})
    publish(given, tmp_path / "student")
    for name in FILES:
        assert b"secret" not in (tmp_path / "student" / name).read_bytes()
    card = (tmp_path / "student/README.md").read_text()
    assert "The command, its paths shortened:\n\n```sh\ncompress distill -d .../x\n```" in card
    assert "bank .../b" in card


def test_the_check_in_this_process_finds_other_answers_too(tmp_path: Path):
    module = randomised("resnet10t", num_classes=7)
    given = facts(module, architecture="resnet10t", input_size=(3, 32, 32))
    done = publish(given, tmp_path / "student", check="here")
    assert done.difference == 0
    assert timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).num_classes == 7
    module.layer1[0].act2 = nn.Tanh()  # the weights fit, the answers do not
    with pytest.raises(InputError, match="answers differently when it is loaded again"):
        publish(given, tmp_path / "other", check="here")
    assert names_in(tmp_path) == ["student"]


def test_the_check_in_this_process_starts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("subprocess.run", lambda *given, **named: pytest.fail("a process was started"))
    module = randomised("resnet10t", num_classes=7)
    publish(facts(module, architecture="resnet10t", input_size=(3, 32, 32)), tmp_path / "student", check="here")


def test_first_weights_that_are_not_random_are_told(tmp_path: Path):
    publish(facts(tiny(), first_weights="the file first.safetensors"), tmp_path / "student")
    assert "First weights: the file first.safetensors" in (tmp_path / "student/README.md").read_text()
    assert storage.read_json(tmp_path / "student/compress.json")["student"]["first_weights"].endswith(".safetensors")


def test_an_unknown_licence_is_told_everywhere(tmp_path: Path):
    done = publish(facts(tiny(), license=None), tmp_path / "student")
    assert any("no licence was given" in warning for warning in done.warnings)
    assert front_matter(tmp_path / "student").license == "other"
    notes = (tmp_path / "student/LICENSE-NOTES.md").read_text()
    assert "These weights: not stated" in notes
    assert "Teacher `resnet34.a1_in1k`: apache-2.0" in notes
    assert "Data `flowers`: not known" in notes


def test_markup_in_names_and_commands_stays_text(tmp_path: Path):
    teacher = dataclasses.replace(TEACHER, name="a`b\n# big")
    publish(facts(tiny(), teacher=teacher, command="echo '```'\n---\nlicense: x"), tmp_path / "student")
    card = (tmp_path / "student/README.md").read_text()
    assert "`a'b # big`" in card
    assert "````sh\necho '```'\n---\nlicense: x\n````" in card
    assert front_matter(tmp_path / "student").license == "mit"


def test_the_record_agrees_with_the_folder(tmp_path: Path):
    publish(facts(tiny()), tmp_path / "student")
    record = storage.read_json(tmp_path / "student/compress.json")
    assert record["schema"] == 1
    assert record["student"]["parameters"] == 147
    assert record["teacher"]["metrics"] == {"top1": 91.8}
    assert record["method"]["settings"] == {"temperature": 4.0, "kd_weight": 0.9}
    assert record["seed"] == 3
    weights = tmp_path / "student/model.safetensors"
    assert record["files"]["model.safetensors"] == storage.sha256_file(weights)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("a", "b")}, r"answers with \(8, 7\), not \(8, 2\)"),
        ({"input_size": (1, 16, 16), "mean": (0.5,), "std": (0.5,)}, "cannot take images"),
        ({"metrics": {"top1": math.nan}}, "top1 is nan"),
        ({"model_args": {"act": nn.ReLU}}, "only plain values"),
    ],
)
def test_facts_that_do_not_fit_the_student_are_refused(tmp_path: Path, changes: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        publish(facts(tiny(), **changes), tmp_path / "student")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ()}, "class_names .* one name per class"),
        ({"mean": (0.5,)}, "mean .* 3 numbers"),
        ({"std": (0.0, 1.0, 1.0)}, "std .* > 0"),
        ({"crop_pct": 0.0}, "crop_pct"),
        ({"interpolation": "cubic"}, "interpolation .* bicubic"),
        ({"input_size": (3, 0, 4)}, "input_size"),
        ({"seeds": 0}, "seeds"),
        ({"factory": "a.b"}, "package.module:factory"),
        ({"architecture": "resnet10t", "factory": "a:b"}, "None beside an architecture"),
        ({"requires": ("os; rm",)}, "importable names"),
        ({"started_from": "runs/a/b"}, "organisation/name"),
        ({"license": "do what you like"}, "license must be an id of the hub"),
        ({"license": "no"}, "license must be an id of the hub"),
    ],
)
def test_impossible_facts_are_refused_where_they_are_born(changes: dict[str, Any], words: str):
    with pytest.raises(InputError, match=words):
        facts(tiny(), **changes)


@pytest.mark.parametrize("spoil", [lambda m: m.fc.bias.fill_(math.nan), lambda m: m.conv.weight.fill_(math.inf)])
def test_a_student_with_values_that_are_not_finite_is_refused(tmp_path: Path, spoil: Callable[[Any], Any]):
    module = tiny()
    with torch.no_grad():
        spoil(module)
    with pytest.raises(InputError, match="NaN or infinite"):
        publish(facts(module), tmp_path / "student")


def test_the_student_given_is_not_changed(tmp_path: Path):
    module = tiny().double().train()
    publish(facts(module), tmp_path / "student")
    assert module.training
    assert module.fc.weight.dtype == torch.float64


def test_a_taken_name_is_refused_and_replaced_only_when_asked(tmp_path: Path):
    publish(facts(tiny()), tmp_path / "student")
    with pytest.raises(StorageError, match="already there"):
        publish(facts(tiny(), seed=4), tmp_path / "student")
    assert storage.read_json(tmp_path / "student/compress.json")["seed"] == 3
    publish(facts(tiny(), seed=4), tmp_path / "student", replace=True)
    assert storage.read_json(tmp_path / "student/compress.json")["seed"] == 4
    assert names_in(tmp_path) == ["student"]


def test_each_operation_of_a_publication_failed_once_leaves_nothing_or_the_whole(tmp_path: Path):
    number = 0
    while True:
        number += 1
        storage.remove_tree(tmp_path / "student")
        disk = FailingOperations(number)
        with storage.replaced_operations(disk):
            try:
                publish(facts(tiny()), tmp_path / "student")
            except StorageError:
                assert disk.failed
            else:
                assert not disk.failed
                break
        assert names_in(tmp_path) in ([], ["student"])
        if (tmp_path / "student").exists():
            assert names_in(tmp_path / "student") == FILES
    assert number > 30
