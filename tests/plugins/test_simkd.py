"""The reused classifier: what it reads, what trains, and the network that is left."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, leaf, network, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Needs, NetworkSpec
from compressor.errors import UnsupportedPair
from compressor.functional import soft_target_kl
from compressor_plugins.simkd import SimKD, SimKDConfig, feature_loss, last_map, make_projector

STUDENT = ((4, 8, 8), (6, 4, 4))
TEACHER = ((4, 8, 8), (10, 4, 4))
LABELS = torch.arange(5) % 3


def teaching(
    maps: Any = TEACHER, *, width: int = 10, pooled: bool = True, layer: nn.Module | None = None
) -> NetworkSpec:
    torch.manual_seed(0)
    classifier = nn.Linear(width, 3) if layer is None else layer
    return replace(
        network("teacher", width=width, maps=maps),
        pooled_embedding=pooled,
        classifier_copier=lambda: classifier.requires_grad_(False),
    )


def simkd(student: Any = STUDENT, teacher: NetworkSpec | None = None, **config: Any) -> SimKD:
    torch.manual_seed(1)
    made = SimKD(SimKDConfig(**config), pair(network("student", maps=student), teacher or teaching()))
    return made.double()


def answer(maps: Any, seed: int, *, width: int = 10) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages, embedding=leaf(5, width, seed=seed + 9))


def terms(method: SimKD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(LABELS), student, teacher)


def test_projector_has_the_geometry_of_the_paper() -> None:
    # From 6 to 10 channels through 10 // 2 = 5: convolutions of 1, 9 and 1 places without bias, and two numbers of
    # batch normalisation for each channel behind them.
    projector = simkd().projector
    assert [type(layer) for layer in projector] == 3 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    kernels = [layer.kernel_size for layer in projector if isinstance(layer, nn.Conv2d)]
    assert kernels == [(1, 1), (3, 3), (1, 1)]
    by_hand = 6 * 5 + 9 * 5 * 5 + 5 * 10 + 2 * (5 + 5 + 10)
    assert sum(parameter.numel() for parameter in projector.parameters()) == by_hand
    assert projector(torch.zeros(2, 6, 7, 3, dtype=torch.float64)).shape == (2, 10, 7, 3)


def test_inner_width_follows_the_reduction_and_is_never_zero() -> None:
    for reduction, inner in ((1, 10), (4, 2), (16, 1)):
        first = make_projector(6, 10, reduction, rectified=True)[0]
        assert isinstance(first, nn.Conv2d)
        assert first.out_channels == inner


def test_feature_loss_equals_a_slow_loop_over_elements() -> None:
    ours, theirs = leaf(2, 3, 2, 2, seed=1), leaf(2, 3, 2, 2, seed=2)
    pairs = list(zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True))
    assert feature_loss(ours, theirs).item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 24)


def test_term_is_the_weighted_loss_between_projected_map_and_teachers_map() -> None:
    method, student, teacher = simkd(feature_weight=3.0), answer(STUDENT, 0), answer(TEACHER, 50)
    wanted = 3 * feature_loss(method.projector(student.stages[-1]), teacher.stages[-1])
    got = terms(method, student, teacher)
    assert set(got) == {"feature"}
    assert got["feature"].item() == pytest.approx(wanted.item())


@settings(max_examples=15, deadline=None)
@given(st.tuples(*4 * [st.integers(1, 6)]))
def test_maps_of_any_sizes_meet_at_the_smaller_one_of_each_axis(sizes: tuple[int, int, int, int]) -> None:
    height, width, their_height, their_width = sizes
    student, teacher = ((6, height, width),), ((10, their_height, their_width),)
    method = simkd(student, teaching(teacher)).eval()
    size = (min(height, their_height), min(width, their_width))
    ours, theirs = answer(student, 0), answer(teacher, 50)
    projected = method.projector(F.adaptive_avg_pool2d(ours.stages[0], size))
    wanted = F.mse_loss(projected, F.adaptive_avg_pool2d(theirs.stages[0], size))
    assert terms(method, ours, theirs)["feature"].item() == pytest.approx(wanted.item())


def test_features_that_are_the_teachers_give_no_loss_and_the_teachers_answers() -> None:
    # "The same performance as the teacher, provided that features are perfectly aligned."
    method = simkd(TEACHER, ce_weight=1.0, kd_weight=1.0)
    method.projector = nn.Sequential()
    maps = leaf(5, 10, 4, 4, seed=3)
    logits = method.classifier(maps.mean((2, 3))).detach()
    teacher = ModelOutput(logits=logits, stages=(maps, maps), embedding=maps.mean((2, 3)))
    got = terms(method, ModelOutput(stages=(maps, maps)), teacher)
    assert (got["feature"].item(), got["kd"].item()) == (0, pytest.approx(0, abs=1e-12))
    assert got["ce"].item() == pytest.approx(F.cross_entropy(logits, LABELS).item())


def test_labels_and_logit_term_look_at_what_the_teachers_classifier_says() -> None:
    method, student, teacher = simkd(ce_weight=0.5, kd_weight=2.0), answer(STUDENT, 0), answer(TEACHER, 50)
    logits = method.classifier(method.projector(student.stages[-1]).mean((2, 3)))
    got = terms(method, student, teacher)
    assert got["ce"].item() == pytest.approx(0.5 * F.cross_entropy(logits, LABELS).item())
    assert got["kd"].item() == pytest.approx(2 * soft_target_kl(logits, teacher.logits, 4.0).item())
    assert set(terms(simkd(kd_weight=1.0), student, teacher)) == {"kd", "feature"}


def test_gradient_reaches_student_and_projector_and_not_the_teacher_or_its_classifier() -> None:
    method, student, teacher = simkd(ce_weight=1.0, kd_weight=1.0), answer(STUDENT, 0), answer(TEACHER, 50)
    torch.stack(list(terms(method, student, teacher).values())).sum().backward()
    assert student.stages[-1].grad is not None
    assert all(parameter.grad is not None for parameter in method.projector.parameters())
    assert all(parameter.grad is None for parameter in method.classifier.parameters())
    assert all(value.grad is None for value in (teacher.logits, teacher.embedding, *teacher.stages))


def test_only_student_and_projector_train() -> None:
    (phase,) = simkd().phases()
    assert (phase.name, phase.trains) == ("student", ("student", "projector"))


def test_of_the_teacher_only_what_is_compared_is_asked() -> None:
    for pooled, asked in ((True, Needs(stages=True)), (False, Needs(embedding=True))):
        (phase,) = simkd(teacher=teaching(pooled=pooled)).phases()
        assert phase.needs is not None
        assert phase.needs.of("teacher") == asked
        assert phase.needs.of("student") == Needs(stages=True)


def test_an_embedding_that_is_no_mean_of_the_map_is_compared_itself() -> None:
    method = simkd(teacher=teaching(width=7, pooled=False))
    assert not isinstance(method.projector[-1], nn.ReLU)  # an embedding may be negative
    student, teacher = answer(STUDENT, 0), answer(TEACHER, 50, width=7)
    wanted = F.mse_loss(method.projector(student.stages[-1]).mean((2, 3)), teacher.embedding)
    assert terms(method, student, teacher)["feature"].item() == pytest.approx(wanted.item())
    (link,) = method.plan()
    assert link.teacher == "embedding 7"
    assert link.adapter.endswith("averaged to a vector")


def test_plan_names_the_last_maps_and_counts_the_projector() -> None:
    (link,) = simkd().plan()
    assert (link.student, link.teacher) == ("stage1 6x4x4", "stage1 10x4x4")
    assert link.parameters == 6 * 5 + 9 * 5 * 5 + 5 * 10 + 2 * (5 + 5 + 10)


class Plain(nn.Module):
    """A network that shows nothing: two maps, one of them twice, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 6, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.body(images)).flatten(1))
        return logits


def tapping() -> nn.Module:
    torch.manual_seed(2)
    import compressor_zoo

    assert compressor_zoo.ARCHITECTURES
    made: nn.Module = timm.create_model("cifar_resnet8", num_classes=3)
    return made


@pytest.mark.parametrize("make", [Plain, tapping, lambda: timm.create_model("test_resnet", num_classes=3)])
def test_last_map_is_that_of_the_stages_whatever_the_network_shows(make: Any) -> None:
    from compressor.models.taps import TappedModel, Wanted

    net = make().eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stages = TappedModel(net, owner="student")(images, Wanted(stages=True)).stages
    assert torch.equal(last_map(net, images), stages[-1])
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("size", [None, (4, 4)])
def test_what_is_exported_answers_as_the_terms_saw_it_and_shares_every_number(size: tuple[int, int] | None) -> None:
    net, images = tapping(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = last_map(net, images)
    theirs = (10, *(maps.shape[-2:] if size is None else size))
    shapes = (tuple(maps.shape[1:]),)
    method = SimKD(SimKDConfig(), pair(network("student", maps=shapes), teaching((theirs,))))
    assert method.size == size
    method.train()
    whole = method.export(net).eval()
    assert method.training  # and the original did not notice
    assert method.projector.training
    with torch.no_grad():
        net.eval()
        method.eval()
        ours = last_map(net, images)
        reduced = ours if size is None else F.adaptive_avg_pool2d(ours, size)
        wanted = method.classifier(method.projector(reduced).mean((2, 3)))
        assert torch.equal(whole(images), wanted)
    own = {id(parameter) for parameter in [*net.parameters(), *method.parameters()]}
    assert {id(parameter) for parameter in whole.parameters()} <= own
    trunk = sum(parameter.numel() for parameter in net.parameters()) - 64 * 3 - 3  # without its own classifier
    extras = sum(parameter.numel() for parameter in method.parameters())
    assert sum(parameter.numel() for parameter in whole.parameters()) == trunk + extras


def test_a_network_that_cannot_be_cut_is_exported_whole() -> None:
    torch.manual_seed(0)
    net = Plain()
    method = SimKD(SimKDConfig(), pair(network("student", maps=((6, 4, 4),)), teaching(((10, 4, 4),))))
    whole = method.export(net).eval()
    assert whole(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    assert {id(parameter) for parameter in net.parameters()} < {id(parameter) for parameter in whole.parameters()}


def test_what_is_exported_says_what_it_is_made_of_and_how_it_is_built_again() -> None:
    method = simkd(((6, 8, 8),), teaching(((10, 4, 4),)), reduction=5)
    whole: Any = method.export(tapping())
    assert whole.extras == {"the projector": sum(p.numel() for p in method.projector.parameters()), **CLASSIFIER}
    assert whole.architecture == "zoo_reused_classifier"
    assert whole.model_args == {"width": 10, "reduction": 5, "rectified": True, "size": [4, 4]}
    assert whole.get_classifier().weight is method.classifier.weight


CLASSIFIER = {"the teacher's classifier": 10 * 3 + 3}


def test_pairs_that_cannot_work_are_refused_with_what_is_missing() -> None:
    small = network("small", maps=STUDENT)

    def refused(student: NetworkSpec, teacher: NetworkSpec | None, message: str) -> None:
        with pytest.raises(UnsupportedPair, match=message):
            SimKD.check(SimKDConfig(), pair(student, teacher))

    refused(small, None, "simkd needs a teacher")
    refused(network("flat"), teaching(), "simkd needs feature maps, and flat shows none")
    refused(small, teaching(layer=nn.Linear(9, 3)), "that of teacher takes 9 numbers where its embedding has 10")
    SimKD.check(SimKDConfig(), pair(small, teaching()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"feature_weight": -1.0}, "simkd.feature_weight must be >= 0, got -1"),
        ({"reduction": 0}, "simkd.reduction must be >= 1, got 0"),
        ({"ce_weight": -0.5}, "simkd.ce_weight must be >= 0, got -0.5"),
    ],
)
def test_settings_outside_their_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimKDConfig(**given)
