"""OFA: every stage of the student says what class it sees, and the teacher's answer, with the label's share raised."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, NetworkSpec, Pair, Phase, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import wide
from compressor.supervision import Supervision, lesson, supervised_terms
from compressor_plugins._exits import HEADS, AttentionExit, ConvolutionExit, default_exits, isotropic


@dataclass(frozen=True, kw_only=True)
class OFAConfig(Supervision):
    """Settings of OFA; the defaults are those of the authors' code."""

    final_weight: float = 1.0  # >= 0, of the student's own logits
    exit_weight: float = 1.0  # >= 0, of the exits' logits, summed over the exits
    target_power: float = 1.0  # > 0, to which the targets are raised (epsilon); the authors take 1.5 on ImageNet
    temperature: float = 1.0  # > 0, of both terms, which are not multiplied by its square
    projector: Literal["auto", "convolutions", "attention"] = "auto"  # auto: attention where all maps have one shape
    stages: int | str | None = None  # of the student alone, such as "1,2,3"; None: all but the first, or four of many

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, positive=("target_power", "temperature"), not_negative=("final_weight", "exit_weight"))
        parse_exits("ofa.stages", self.stages)


class OFA(Distiller[OFAConfig]):
    """Hao et al., NeurIPS 2023, arXiv:2310.19444; needs stage maps of the student, and the widths of embeddings.

    The two networks are compared as classifiers alone, so they may be built in any way. Exits are trained with the
    student and never published.
    """

    name = "ofa"
    Config = OFAConfig
    capturable = "phase"
    needs = Needs(stages="student", embedding=True)

    def __init__(self, config: OFAConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.stages = exit_stages(config, pair.student)
        self.exits = nn.ModuleList(self._exit(place) for place in range(len(self.stages)))
        # An exit's targets are softened by one temperature, that of the method.
        self._lesson = replace(config, kd_temperature=config.temperature, kd_temperature_policy="constant")

    @classmethod
    def check(cls, config: OFAConfig, pair: Pair) -> None:
        """Refuse students without maps, stages that are not there, and widths that attention cannot share out."""
        pair.require_teacher(cls.name)
        exit_stages(config, pair.student)
        width = pair.student.embedding_width
        if with_attention(config, pair.student) and width % HEADS:
            raise UnsupportedPair(
                f"ofa's attention has {HEADS} heads, and the embedding of {pair.student.name} is {width} wide",
                hint="--set method.ofa.projector=convolutions",
            )

    def phases(self) -> Sequence[Phase]:
        """Return the one phase, which reads maps of the student alone; of embeddings only the widths mattered."""
        return (Phase(name="student", trains=("student", "exits"), terms=self.terms, needs=Needs(stages="student")),)

    def plan(self) -> Sequence[Link]:
        """Return each exit with its parameters, and the student's own logits."""
        logits = f"logits {self.pair.num_classes}"
        links = []
        for number, one in zip(self.stages, self.exits, strict=True):
            stage = self.pair.student.stages[number]
            links.append(
                Link(
                    student=f"{stage.name} {stage.channels}x{stage.height}x{stage.width}",
                    teacher=logits,
                    adapter=str(one.words),
                    parameters=sum(parameter.numel() for parameter in one.parameters()),
                )
            )
        return [*links, Link(student=logits, teacher=logits)]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``final``, ``exits`` and, with a weight, ``kd``."""
        config = self.config
        targets, _ = lesson(self._lesson, batch, student.logits, teacher.logits, batch.labels)
        said = (targets, batch.labels, config.target_power, config.temperature)
        exits = [one(student.stages[number]) for number, one in zip(self.stages, self.exits, strict=True)]
        return {
            **supervised_terms(config, batch, student, teacher),
            "final": config.final_weight * enhanced_cross_entropy(student.logits, *said),
            "exits": config.exit_weight * torch.stack([enhanced_cross_entropy(one, *said) for one in exits]).sum(),
        }

    def _exit(self, place: int) -> ConvolutionExit | AttentionExit:
        student, classes = self.pair.student, self.pair.num_classes
        stage = student.stages[self.stages[place]]
        if with_attention(self.config, student):
            blocks = max(len(self.stages) - 1 - place, 1)
            return AttentionExit(stage, student.embedding_width, blocks, classes)
        width = max(student.embedding_width, self.pair.require_teacher(self.name).embedding_width)
        return ConvolutionExit(stage, student.stages[-1], width, classes)


def enhanced_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, power: float, temperature: float
) -> Tensor:
    """Cross entropy with the teacher's probabilities, that of the right class raised by how sure the teacher is of it.

    With the teacher's p and the student's q at temperature T, the right class y and the power e:
    ``-((1 + p_y)**e - 1) * log q_y - sum over the other classes of p_c**e * log q_c``, mean over the batch.

    Args:
        student_logits: (B, K), with gradient. teacher_logits: (B, K), detached. labels: (B,) right classes.
        power: e > 0; 1 gives the plain cross entropy with p. temperature: T > 0.

    Returns:
        0-d tensor in nats, >= 0. Finite however sure a network is.

    Source: Hao et al. 2023, arXiv:2310.19444, in the form of the authors' code, in which the labels' own term is apart
    and the power is that of all classes.
    """
    teacher = (wide(teacher_logits.detach()) / temperature).softmax(1)
    right = labels[:, None]
    raised = torch.expm1(power * torch.log1p(teacher.gather(1, right)))
    weights = teacher.pow(power).scatter(1, right, raised)
    return -(weights * F.log_softmax(wide(student_logits) / temperature, dim=1)).sum(1).mean()


def exit_stages(config: OFAConfig, student: NetworkSpec) -> tuple[int, ...]:
    """Return the positions of the student's maps behind which exits stand, in order.

    Raises:
        UnsupportedPair: the student shows no maps, or has no such stage.
    """
    chosen, count = parse_exits("ofa.stages", config.stages), len(student.stages)
    if count < (1 if chosen else 2):
        raise UnsupportedPair(
            f"ofa needs feature maps, and {student.name} shows {'one' if count else 'none'}", hint="--method kd"
        )
    if chosen is None:
        return default_exits(student.stages)
    if chosen[-1] >= count:
        raise UnsupportedPair(
            f"{student.name} has stages 0 to {count - 1}, not {chosen[-1]}",
            hint=f"--set method.ofa.stages={','.join(map(str, default_exits(student.stages) or (0,)))}",
        )
    return chosen


def parse_exits(setting: str, wanted: int | str | None) -> tuple[int, ...] | None:
    """Read a user's stages of the student such as ``"1,2,3"``, or one number, in rising order; None stays None.

    Args:
        setting: its name, for messages.

    Raises:
        ValueError: it is not of that form, or names a stage twice.
    """
    if wanted is None:
        return None
    text = str(wanted)
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise ValueError(f'{setting} must be stages of the student such as "1,2,3", got {text!r}')
    chosen = sorted(int(part) for part in text.split(","))
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{setting} names a stage twice: {text!r}")
    return tuple(chosen)


def with_attention(config: OFAConfig, student: NetworkSpec) -> bool:
    """Say whether the exits attend: as set, or where all maps of the student are of one shape."""
    return config.projector == "attention" or (config.projector == "auto" and isotropic(student.stages))
