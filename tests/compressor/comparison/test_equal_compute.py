"""Plain distillation on many views: what it needs, what it learns, and the row it makes in a grid."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tiny_runs import TINY

from compressor.comparison.cells import line_up, plan_cells
from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.data.resident import ResidentSplit
from compressor.data.types import PLAIN, Augmentation, ViewSlot
from compressor.distiller import Batch, ModelOutput, Pair, Rotations
from compressor.distiller.specs import NetworkSpec
from compressor.engine.inputs import Objects
from compressor.registry import load_method


def config_for(overrides: Mapping[str, Any]) -> RunConfig:
    return resolve([Layer("test", TINY), Layer("compare", overrides)]).config


def test_kd_asks_for_as_many_views_as_its_setting_says() -> None:
    kd = load_method("kd")
    assert kd.needs_for(kd.Config()).views.count == 1
    assert kd.needs_for(kd.Config(views=4, turn_views=True)).views == Rotations(4)
    crops = kd.needs_for(kd.Config(views=4)).views
    images = torch.arange(12).view(1, 3, 2, 2)
    assert crops.count == 4
    assert all(torch.equal(crops.transform(images, view), images) for view in range(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 0}, r"kd\.views must be 1 to 16, got 0"),
        ({"views": 17}, r"kd\.views must be 1 to 16, got 17"),
        ({"views": 5, "turn_views": True}, r"kd\.views must be 1 to 4, got 5"),
    ],
)
def test_impossible_numbers_of_views_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_method("kd").Config(**settings)


def test_views_of_an_image_are_crops_of_their_own() -> None:
    kd = load_method("kd")
    views = kd.needs_for(kd.Config(views=3)).views
    images = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = ResidentSplit(images, torch.arange(5))
    slots = [PLAIN, ViewSlot(views, 1), ViewSlot(views, 2)]
    [shown] = split.batches([torch.arange(5)], slots=slots, augmentation=Augmentation(crop_padding=4))
    [plain] = split.batches([torch.arange(5)], augmentation=Augmentation(crop_padding=4))
    assert torch.equal(shown.images[:, 0], plain.images[:, 0])
    assert not torch.equal(shown.images[:, 0], shown.images[:, 1])
    assert not torch.equal(shown.images[:, 1], shown.images[:, 2])


def test_every_view_counts_as_an_image_of_its_own() -> None:
    kd = load_method("kd")
    spec = NetworkSpec(name="net", stages=(), preacts=False, embedding_width=0, num_classes=3)
    pair = Pair(student=spec, teacher=spec, num_classes=3, train_size=4, class_counts=(2, 1, 1))
    student, teacher = (torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))

    def terms(labels: list[int], views: int) -> Mapping[str, torch.Tensor]:
        batch = Batch(labels=torch.tensor(labels), views=views, epoch=0, step=0, progress=0.0)
        method = kd(kd.Config(views=views), pair)
        found: Mapping[str, torch.Tensor] = method.terms(
            batch, ModelOutput(logits=student), ModelOutput(logits=teacher)
        )
        return found

    turned, plain = terms([0, 2], 4), terms([0, 0, 0, 0, 2, 2, 2, 2], 1)
    assert set(turned) == {"ce", "kd"}
    assert all(torch.equal(turned[name], plain[name]) for name in plain)


def test_grid_with_sskd_has_a_cell_of_kd_on_four_views(tmp_path: Any) -> None:
    rows = line_up(config_for, ["scratch", "kd", "sskd"], equal_compute=True)
    cells = plan_cells(config_for, rows, ("resnet14", "resnet8", 3), tmp_path, Objects())
    assert [cell.name for cell in cells] == ["scratch s3", "kd s3", "sskd s3", "kd (4 views) s3"]
    assert [cell.config.method.settings.get("views") for cell in cells] == [None, None, None, 4]
    assert len({cell.folder for cell in cells}) == 4


def test_views_that_the_user_gave_kd_are_not_asked_again() -> None:
    def four_views(overrides: Mapping[str, Any]) -> RunConfig:
        return config_for({"method.kd.views": 4, **overrides})

    rows = line_up(four_views, ["scratch", "kd", "sskd"], equal_compute=True)
    assert [row.label for row in rows] == ["scratch", "kd", "sskd"]
