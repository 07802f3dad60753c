"""OFA: the loss by hand and by a loop, what it asks of the student, its exits of both kinds, who learns, refusals."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Needs, NetworkSpec, StageSpec
from compressor.errors import UnsupportedPair
from compressor_plugins._exits import AttentionBlock, AttentionExit, ConvolutionExit, PlaceMerging, default_exits
from compressor_plugins.ofa import OFA, OFAConfig, enhanced_cross_entropy

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2))
OBLONG = ((6, 12, 4), (10, 6, 2), (9, 3, 1))
TOKENS = ((8, 4, 4),) * 4
LABELS = torch.tensor([2, 0, 1, 1, 0])


def student_of(maps: Any, width: int = 12) -> NetworkSpec:
    return network("small", width=width, maps=maps)


def ofa(maps: Any = SMALL, teacher_width: int = 20, **chosen: Any) -> OFA:
    torch.manual_seed(0)
    return OFA(OFAConfig(**chosen), pair(student_of(maps), network("large", width=teacher_width))).double()


def answer(maps: Any = SMALL, seed: int = 0) -> ModelOutput:
    stages = tuple(leaf(len(LABELS), *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(len(LABELS), 3, seed=seed + 30), stages=stages)


def teacher_logits(seed: int = 50) -> Tensor:
    return leaf(len(LABELS), 3, seed=seed)


def terms(method: OFA, student: ModelOutput, teacher: Tensor) -> dict[str, Tensor]:
    return method.terms(batch(LABELS), student, ModelOutput(logits=teacher))


def spec(*shape: int) -> StageSpec:
    channels, height, width = shape
    return StageSpec(name="stage", channels=channels, height=height, width=width)


def test_loss_equals_a_value_worked_by_hand() -> None:
    # At T = 2 the teacher says (1/2, 1/3, 1/6), of which class 0 is right; the student is undecided.
    teacher = 2 * torch.tensor([[3.0, 2.0, 1.0]]).log()
    loss = enhanced_cross_entropy(torch.zeros(1, 3), teacher, torch.tensor([0]), 1.5, 2.0)
    weights = (1.5**1.5 - 1) + (1 / 3) ** 1.5 + (1 / 6) ** 1.5
    assert loss.item() == pytest.approx(weights * math.log(3))


def test_loss_equals_a_slow_loop() -> None:
    student, teacher, labels = draw(4, 5), draw(4, 5, seed=1), torch.tensor([0, 4, 2, 2])
    total = 0.0
    for row, label in enumerate(labels.tolist()):
        ours, theirs = (softmax(one[row].tolist(), 3.0) for one in (student, teacher))
        for column in range(5):
            here = float(column == label)
            total -= ((theirs[column] + here) ** 1.3 - here) * math.log(ours[column])
    assert enhanced_cross_entropy(student, teacher, labels, 1.3, 3.0).item() == pytest.approx(total / 4)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 8), classes=st.integers(2, 7))
def test_power_one_is_the_cross_entropy_with_the_teachers_probabilities(
    seed: int, temperature: float, classes: int
) -> None:
    student, teacher = draw(3, classes, seed=seed), draw(3, classes, seed=seed + 1)
    labels = torch.arange(3) % classes
    expected = F.cross_entropy(student / temperature, (teacher / temperature).softmax(1))
    got = enhanced_cross_entropy(student, teacher, labels, 1.0, temperature)
    assert got.item() == pytest.approx(expected.item())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), power=st.floats(1.05, 3), temperature=st.floats(0.5, 4))
def test_the_best_student_is_surer_of_the_right_class_than_its_teacher(
    seed: int, power: float, temperature: float
) -> None:
    teacher = draw(1, 4, seed=seed)
    said = (teacher / temperature).softmax(1)[0].tolist()
    weights = [(1 + said[0]) ** power - 1, *(value**power for value in said[1:])]
    best = (temperature * torch.tensor([weights], dtype=torch.float64).log()).requires_grad_()
    enhanced_cross_entropy(best, teacher, torch.tensor([0]), power, temperature).backward()
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-12
    assert weights[0] / sum(weights) > said[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-20, 20))
def test_a_shift_of_all_logits_changes_nothing(seed: int, shift: float) -> None:
    student, teacher = draw(5, 3, seed=seed), draw(5, 3, seed=seed + 1)
    expected = enhanced_cross_entropy(student, teacher, LABELS, 1.5, 2.0).item()
    assert enhanced_cross_entropy(student + shift, teacher - shift, LABELS, 1.5, 2.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("gap", [1e3, 1e6])
def test_loss_of_sure_networks_is_finite_where_a_plain_softmax_gives_infinity(gap: float) -> None:
    # The logarithm of the softmax's zero is what the authors' code takes here.
    student = torch.tensor([[gap, 0.0], [0.0, gap]], requires_grad=True)
    teacher = torch.tensor([[0.0, gap], [0.0, gap]])
    assert student.softmax(1)[0, 1].log().item() == -math.inf
    loss = enhanced_cross_entropy(student, teacher, torch.tensor([1, 0]), 1.5, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx((2**1.5 - 1) * gap / 2, rel=1e-6)  # image 1: both are sure of the wrong class
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_gradient_of_the_loss_is_the_derivative_and_never_the_teachers() -> None:
    student, teacher = leaf(5, 3), leaf(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda logits: enhanced_cross_entropy(logits, teacher, LABELS, 1.5, 2.0), student)
    enhanced_cross_entropy(student, teacher, LABELS, 1.5, 2.0).backward()
    assert teacher.grad is None


def test_terms_are_weighted_and_the_exits_added_up() -> None:
    method = ofa(final_weight=3.0, exit_weight=0.5, target_power=1.5, temperature=2.0)
    student, teacher = answer(), teacher_logits()
    said = (teacher, LABELS, 1.5, 2.0)
    exits = [one(student.stages[at]) for one, at in zip(method.exits, (1, 2, 3), strict=True)]
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "final", "exits"}
    assert found["ce"].item() == pytest.approx(F.cross_entropy(student.logits, LABELS).item())
    assert found["final"].item() == pytest.approx(3 * enhanced_cross_entropy(student.logits, *said).item())
    assert found["exits"].item() == pytest.approx(sum(0.5 * enhanced_cross_entropy(one, *said).item() for one in exits))


def test_the_logit_term_is_there_only_with_a_weight() -> None:
    assert set(terms(ofa(kd_weight=0.5), answer(), teacher_logits())) == {"ce", "kd", "final", "exits"}


def test_a_wrong_teacher_is_corrected_where_the_settings_ask_for_it() -> None:
    # The teacher holds the class after the label for right; both exchanged, it is as if it had known.
    knew = F.one_hot(LABELS, 3) * 4.0 + F.one_hot((LABELS + 1) % 3, 3) * 1.0
    wrong = F.one_hot(LABELS, 3) * 1.0 + F.one_hot((LABELS + 1) % 3, 3) * 4.0
    right, corrected = terms(ofa(), answer(), knew.double()), terms(ofa(kd_target="ps"), answer(), wrong.double())
    uncorrected = terms(ofa(), answer(), wrong.double())
    for name in ("final", "exits"):
        assert corrected[name].item() == pytest.approx(right[name].item())
        assert uncorrected[name].item() != pytest.approx(right[name].item())


@pytest.mark.parametrize("projector", ["convolutions", "attention"])
def test_gradient_reaches_student_and_exits_and_not_the_teacher(projector: Any) -> None:
    method, student, teacher = ofa(projector=projector), answer(), teacher_logits()
    torch.autograd.backward(torch.stack(list(terms(method, student, teacher).values())).sum())
    stem, *others = student.stages
    assert stem.grad is None
    assert all(one.grad is not None and one.grad.any() for one in (student.logits, *others))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())
    assert teacher.grad is None


def test_exits_are_trained_with_the_student() -> None:
    (phase,) = ofa().phases()
    assert phase.trains == ("student", "exits")


def test_of_the_teacher_nothing_but_logits_is_asked() -> None:
    (phase,) = ofa().phases()
    assert phase.needs == Needs(stages="student")
    assert OFA.needs.of("teacher") == Needs(embedding=True)  # for its width


@pytest.mark.parametrize("maps", [SMALL, OBLONG, ((4, 9, 9), (5, 7, 7), (6, 3, 3)), ((4, 8, 8), (5, 1, 1), (5, 2, 2))])
@pytest.mark.parametrize("projector", ["convolutions", "attention"])
def test_exits_read_logits_off_maps_of_any_size(maps: Any, projector: Any) -> None:
    method, student = ofa(maps, projector=projector), answer(maps)
    for one, stage in zip(method.exits, student.stages[1:], strict=True):
        assert one(stage).shape == (len(LABELS), 3)
    assert torch.isfinite(terms(method, student, teacher_logits())["exits"])


@pytest.mark.parametrize(
    ("shape", "heights"),
    [((4, 32, 32), [16, 8, 4]), ((5, 16, 16), [8, 4]), ((7, 4, 4), [4]), ((3, 30, 10), [15, 8])],
)
def test_convolutions_halve_a_map_to_the_size_of_the_last(shape: tuple[int, int, int], heights: list[int]) -> None:
    one = ConvolutionExit(spec(*shape), spec(9, 4, 4), width=12, classes=3)
    *layers, _, _, linear = one
    given = draw(2, *shape).float()
    found, reduced = [], given
    for layer in layers:
        reduced = layer(reduced)
        found.append(reduced.shape[2])
    assert found == heights
    assert reduced.shape[1] == 12
    assert torch.allclose(one(given), linear(reduced.mean((2, 3))))


def test_a_halving_doubles_the_channels_and_the_last_leads_to_the_wider_embedding() -> None:
    first, second, last = ofa(teacher_width=20).exits
    assert widths(first) == [6, 12, 12, 20]
    assert widths(second) == [8, 20]
    assert widths(last) == [20]
    assert widths(ofa(teacher_width=5).exits[2]) == [12]  # the student's is the wider one


def widths(one: nn.Module) -> list[int]:
    """Return the channels that come out of the convolutions 1x1."""
    return [part.out_channels for part in one.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)]


def test_students_whose_maps_have_one_shape_get_attention_and_others_convolutions() -> None:
    assert all(isinstance(one, AttentionExit) for one in ofa(TOKENS).exits)
    assert all(isinstance(one, ConvolutionExit) for one in ofa(SMALL).exits)
    assert all(isinstance(one, ConvolutionExit) for one in ofa(TOKENS, projector="convolutions").exits)
    assert isinstance(ofa(TOKENS, stages=2).exits[0], AttentionExit)


def test_twelve_maps_of_one_shape_have_the_authors_four_exits_and_blocks() -> None:
    method = ofa(((8, 4, 4),) * 12)
    assert method.stages == (1, 3, 9, 11)
    blocks = [sum(isinstance(part, AttentionBlock) for part in one.modules()) for one in method.exits]
    assert blocks == [3, 2, 1, 1]


@pytest.mark.parametrize(
    ("maps", "exits"),
    [
        (SMALL, (1, 2, 3)),
        (SMALL + ((10, 1, 1),) * 3, (1, 2, 3, 4, 5, 6)),
        (((8, 4, 4),) * 5, (1, 2, 3, 4)),
        (((8, 4, 4),) * 6, (0, 1, 4, 5)),
        (((8, 4, 4),) * 24, (3, 7, 19, 23)),
    ],
)
def test_default_exits_leave_the_first_map_out_or_are_four_of_many_alike(maps: Any, exits: tuple[int, ...]) -> None:
    assert default_exits([spec(*shape) for shape in maps]) == exits


def test_a_block_of_attention_is_torchs_own() -> None:
    ours = AttentionBlock(8).double()
    torchs = nn.TransformerEncoderLayer(8, 4, 32, 0.0, F.gelu, batch_first=True, norm_first=True, dtype=torch.float64)
    state = dict(zip(PARTS, ours.parameters(), strict=True))
    missing, unexpected = torchs.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["self_attn.in_proj_bias"], [])  # which torch sets to zero
    places = draw(2, 5, 8)
    assert torch.allclose(ours(places), torchs(places))


PARTS = (
    "norm1.weight",
    "norm1.bias",
    "self_attn.in_proj_weight",
    "self_attn.out_proj.weight",
    "self_attn.out_proj.bias",
    "norm2.weight",
    "norm2.bias",
    "linear1.weight",
    "linear1.bias",
    "linear2.weight",
    "linear2.bias",
)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_attention_without_a_merging_does_not_see_where_a_place_is(seed: int) -> None:
    one = AttentionExit(spec(8, 4, 4), width=8, blocks=2, classes=3).double()
    places = draw(2, 8, 16, seed=seed)
    moved = places[:, :, torch.randperm(16, generator=torch.Generator().manual_seed(seed))]
    assert torch.allclose(one(places.view(2, 8, 4, 4)), one(moved.reshape(2, 8, 4, 4)))


@pytest.mark.parametrize(("height", "width"), [(4, 6), (3, 5), (1, 2)])
def test_a_merging_joins_two_by_two_places_and_pads_odd_sides_with_zeros(height: int, width: int) -> None:
    merging, places = PlaceMerging(3, 7, activate=False).double(), draw(2, height, width, 3)
    joined = merging(places)
    assert joined.shape == (2, math.ceil(height / 2), math.ceil(width / 2), 7)
    padded = F.pad(places, (0, 0, 0, 1, 0, 1))
    for row in range(joined.shape[1]):
        for column in range(joined.shape[2]):
            square = padded[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].transpose(1, 2).flatten(1)
            assert torch.allclose(joined[:, row, column], merging.linear(merging.norm(square)))


@pytest.mark.parametrize(
    ("side", "activated"),
    [(7, []), (13, []), (14, [True]), (27, [True]), (28, [True, False]), (56, [True, True, False])],
)
def test_places_are_merged_while_the_map_has_fourteen_a_side(side: int, activated: list[bool]) -> None:
    one = AttentionExit(spec(8, side, side), width=8, blocks=1, classes=3)
    assert [part.activate for part in one if isinstance(part, PlaceMerging)] == activated


def test_plan_shows_each_exit_and_counts_its_parameters() -> None:
    *exits, final = ofa().plan()
    assert [(link.student, link.teacher, link.adapter) for link in exits] == [
        ("stage1 6x8x8", "logits 3", "2 halvings, linear"),
        ("stage2 8x4x4", "logits 3", "1 halving, linear"),
        ("stage3 10x2x2", "logits 3", "1x1 convolution, linear"),
    ]
    halving = 8 * 9 + 8 * 8 + 2 * 8 + 8 * 9 + 8 * 20 + 2 * 20  # two times depthwise, pointwise and normalisation
    assert exits[1].parameters == halving + 20 * 3 + 3
    assert (final.student, final.teacher, final.parameters) == ("logits 3", "logits 3", 0)
    assert ofa(TOKENS).plan()[0].adapter == "0 mergings, 2 blocks of attention, linear"


@pytest.mark.parametrize(("wanted", "stages"), [("3, 1", (1, 3)), ("0", (0,)), (2, (2,)), (None, (1, 2, 3))])
def test_stages_are_those_of_the_student_in_rising_order(wanted: Any, stages: tuple[int, ...]) -> None:
    assert ofa(stages=wanted).stages == stages


def test_pairs_that_cannot_work_are_refused() -> None:
    large = network("large", width=20)
    with pytest.raises(UnsupportedPair, match="ofa needs feature maps, and flat shows none") as caught:
        OFA.check(OFAConfig(), pair(network("flat"), large))
    assert caught.value.hint == "--method kd"
    with pytest.raises(UnsupportedPair, match="ofa needs feature maps, and single shows one"):
        OFA.check(OFAConfig(), pair(network("single", maps=SMALL[:1]), large))
    with pytest.raises(UnsupportedPair, match="small has stages 0 to 3, not 7") as caught:
        OFA.check(OFAConfig(stages="1,7"), pair(student_of(SMALL), large))
    assert caught.value.hint == "--set method.ofa.stages=1,2,3"
    with pytest.raises(UnsupportedPair, match="ofa needs a teacher"):
        OFA.check(OFAConfig(), pair(student_of(SMALL), None))
    OFA.check(OFAConfig(stages=0), pair(network("single", maps=SMALL[:1]), large))


def test_an_embedding_that_heads_cannot_share_is_refused_with_what_to_type() -> None:
    odd = pair(student_of(TOKENS, width=10), network("large", width=20))
    with pytest.raises(UnsupportedPair, match="ofa's attention has 4 heads, and the embedding of small is 10 wide") as (
        caught
    ):
        OFA.check(OFAConfig(), odd)
    assert caught.value.hint == "--set method.ofa.projector=convolutions"
    OFA.check(OFAConfig(projector="convolutions"), odd)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"final_weight": -1.0}, "ofa.final_weight must be >= 0, got -1.0"),
        ({"exit_weight": math.nan}, "ofa.exit_weight must be >= 0, got nan"),
        ({"target_power": 0.0}, "ofa.target_power must be > 0, got 0.0"),
        ({"temperature": -2.0}, "ofa.temperature must be > 0, got -2.0"),
        ({"stages": "1:1"}, """ofa.stages must be stages of the student such as "1,2,3", got '1:1'"""),
        ({"stages": -1}, "ofa.stages must be stages of the student"),
        ({"stages": "1,1"}, "ofa.stages names a stage twice: '1,1'"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFAConfig(**chosen)
