"""FT: a paraphraser learns to say the teacher's last map in fewer channels, and the student learns to say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Schedule, Terms
from compressor.functional import averaged_alike, unit_vectors, wide
from compressor.matching import link_stages, match_last, parse_stages
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class FTConfig(Supervision):
    """Settings of factor transfer; the defaults are those of the CIFAR-100 benchmark (Tian et al. 2020)."""

    ft_weight: float = 200.0  # >= 0, of the factors' distance; 0 trains no paraphraser
    form: Literal["attention", "factor"] = "attention"  # what is compared: the benchmark's or the paper's, see the page
    distance: Literal["absolute", "squared"] = "absolute"  # mean absolute or mean squared difference
    stages: str | None = None  # one student:teacher such as "2:2" (the first map is 0); None: the last of each
    paraphraser_rate: float = 0.5  # > 0, channels of a factor over those of the teacher's map
    paraphraser_epochs: int = 30  # >= 0, of the paraphraser
    paraphraser_lr: float = 0.01  # > 0, of the paraphraser; constant, or a cosine where the run has one

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            positive=("paraphraser_rate", "paraphraser_lr"),
            not_negative=("ft_weight", "paraphraser_epochs"),
        )
        parse_stages("ft.stages", self.stages)


class FT(Distiller[FTConfig]):
    """Kim, Park and Kwak, NeurIPS 2018, arXiv:1802.04977; needs stage maps.

    Phase ``paraphraser``: an auto-encoder learns to rebuild the teacher's map, without labels; it is kept for every
    student. Then its code, the factor, is what the student's translator has to say.
    """

    name = "ft"
    Config = FTConfig
    capturable = "phase"
    needs = Needs(stages=True)

    def __init__(self, config: FTConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.match = match_last(pair, self.name, config.stages)
        channels = pair.require_teacher(self.name).stages[self.match.teacher].channels
        width = max(1, int(config.paraphraser_rate * channels))
        self.paraphraser = Paraphraser(channels, width)
        self.translator = Translator(pair.student.stages[self.match.student].channels, width)

    @classmethod
    def check(cls, config: FTConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        match_last(pair, cls.name, config.stages)

    def phases(self) -> Sequence[Phase]:
        """Return the paraphraser's phase, whose product belongs to the teacher, and the student's."""
        config = self.config
        return (
            Phase(
                name="paraphraser",
                trains=("paraphraser",),
                terms=self.paraphraser_terms,
                schedule=Schedule(
                    epochs=config.paraphraser_epochs if config.ft_weight else 0, lr=config.paraphraser_lr
                ),
                runs_student=False,
                artefact=True,
                artefact_settings=("stages", "paraphraser_rate"),
            ),
            Phase(name="student", trains=("student", "translator"), terms=self.terms),
        )

    def plan(self) -> Sequence[Link]:
        """Return the two maps, each brought to the width of a factor by a network of its own."""
        both = nn.ModuleList([self.translator, self.paraphraser])
        return [link_stages(self.pair, self.match, f"a translator and a paraphraser to {self.translator.width}", both)]

    def paraphraser_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``rebuild``: the mean squared error of the teacher's map rebuilt from its factor."""
        given = teacher.stages[self.match.teacher].detach()
        return {"rebuild": F.mse_loss(wide(self.paraphraser(given)), wide(given))}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``factor`` and, with a weight, ``kd``."""
        config = self.config
        ours = self.translator(student.stages[self.match.student])
        theirs = self.paraphraser.factor(teacher.stages[self.match.teacher].detach())
        return {
            **supervised_terms(config, batch, student, teacher),
            "factor": config.ft_weight * factor_loss(ours, theirs, form=config.form, distance=config.distance),
        }


class Paraphraser(nn.Module):
    """An auto-encoder of maps: three convolutions to a factor, three transposed ones back, no normalisation.

    Args:
        channels: C of the map. width: of the factor.

    Source: Kim et al. 2018, section 3.1; layers and slopes as the CIFAR-100 benchmark has them.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = _layers(nn.Conv2d, (channels, channels, width, width))
        self.decoder = _layers(nn.ConvTranspose2d, (width, width, channels, channels))

    def factor(self, maps: Tensor) -> Tensor:
        """Return (B, width, H, W) from (B, C, H, W)."""
        encoded: Tensor = self.encoder(maps)
        return encoded

    def forward(self, maps: Tensor) -> Tensor:
        """Return the rebuilt map (B, C, H, W), with gradient."""
        rebuilt: Tensor = self.decoder(self.factor(maps))
        return rebuilt


class Translator(nn.Module):
    """The student's way to a factor: as a paraphraser's first half, with batch normalisation.

    Args:
        channels: C of the student's map. width: of the factor.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.encoder = _layers(nn.Conv2d, (channels, channels, width, width), normalise=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, width, H, W) from (B, C, H, W), with gradient."""
        translated: Tensor = self.encoder(maps)
        return translated


def factor_loss(
    student_factor: Tensor,
    teacher_factor: Tensor,
    *,
    form: Literal["attention", "factor"] = "attention",
    distance: Literal["absolute", "squared"] = "absolute",
) -> Tensor:
    """Compare two factors, each image's brought to length 1.

    Args:
        student_factor: (B, C, H, W), with gradient. teacher_factor: (B, C, H', W'), detached. On an axis where one is
            larger it is averaged down.
        form: ``factor`` compares all numbers of an image, ``attention`` only the mean over the channels of their
            squares, a map (H, W).
        distance: mean over all that is compared of the absolute or the squared difference.

    Returns:
        0-d tensor >= 0; 0 for equal factors, and not changed by a positive multiple of either.

    Source: Kim et al. 2018, equations 2 and 3 (``factor``); the CIFAR-100 benchmark's code (``attention``).
    """
    pooled = averaged_alike(wide(student_factor), wide(teacher_factor.detach()))
    ours, theirs = (unit_vectors((one.square().mean(1) if form == "attention" else one).flatten(1)) for one in pooled)
    return F.l1_loss(ours, theirs) if distance == "absolute" else F.mse_loss(ours, theirs)


def _layers(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], widths: Sequence[int], *, normalise: bool = False
) -> nn.Sequential:
    """Make 3x3 convolutions from width to width, three entries each: itself, normalisation or nothing, leaky ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        norm = nn.BatchNorm2d(after) if normalise else nn.Identity()
        layers += [convolution(before, after, kernel_size=3, padding=1), norm, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)
