"""FitNet: a regressor on a middle stage of the student is pulled to the teacher's feature map ("hint")."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Needs, NetworkSpec, Pair, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import logit_term
from compressor.modules import MapRegressor


@dataclass(frozen=True, kw_only=True)
class FitNetConfig:
    """Settings of FitNet; the defaults are those of the CIFAR-100 benchmark, where hint and labels train jointly."""

    hint_weight: float = 100.0  # >= 0, of the mean squared error between the maps
    ce_weight: float = 1.0  # >= 0, of the labels
    kd_weight: float = 0.0  # >= 0, of the optional logit term
    temperature: float = 4.0  # > 0, of the logit term
    stage: int | None = None  # >= 0, the student's stage, stem 0; None takes the middle one
    teacher_stage: int | None = None  # >= 0, the teacher's; None takes the middle one

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"fitnet.temperature must be > 0, got {self.temperature}")
        if min(self.hint_weight, self.ce_weight, self.kd_weight) < 0:
            weights = f"hint {self.hint_weight}, ce {self.ce_weight}, kd {self.kd_weight}"
            raise ValueError(f"fitnet weights must be >= 0, got {weights}")
        for key, stage in (("stage", self.stage), ("teacher_stage", self.teacher_stage)):
            if stage is not None and stage < 0:
                raise ValueError(f"fitnet.{key} must be >= 0, got {stage}")


class FitNet(Distiller[FitNetConfig]):
    """Romero et al. 2015, arXiv:1412.6550; needs stage maps."""

    name = "fitnet"
    Config = FitNetConfig
    needs = Needs(stages=True)

    def __init__(self, config: FitNetConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.student_stage = hint_stage(pair.student, config.stage, "stage")
        self.teacher_stage = hint_stage(teacher, config.teacher_stage, "teacher_stage")
        self.regressor = MapRegressor(pair.student.stages[self.student_stage], teacher.stages[self.teacher_stage])

    @classmethod
    def check(cls, config: FitNetConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        hint_stage(pair.student, config.stage, "stage")
        hint_stage(pair.require_teacher(cls.name), config.teacher_stage, "teacher_stage")

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``hint`` and, with a weight, ``kd``."""
        config = self.config
        regressed = self.regressor(student.stages[self.student_stage])
        hint = hint_loss(regressed, teacher.stages[self.teacher_stage])
        return {
            "ce": config.ce_weight * F.cross_entropy(student.logits, batch.labels),
            "hint": config.hint_weight * hint,
            **logit_term(student.logits, teacher.logits, config.kd_weight, config.temperature),
        }


def hint_loss(regressed: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference over all elements.

    Args:
        regressed: (B, C, H, W), with gradient.
        teacher_map: (B, C, H', W'), detached; averaged to (H, W) where its size differs.

    Returns:
        0-d tensor >= 0.

    Source: Romero et al. 2015, equation 3, with a mean in place of half the sum, as the CIFAR-100 benchmark has it.
    """
    target = teacher_map.detach()
    if target.shape[-2:] != regressed.shape[-2:]:
        target = F.adaptive_avg_pool2d(target, (regressed.shape[-2], regressed.shape[-1]))
    return F.mse_loss(regressed, target)


def hint_stage(network: NetworkSpec, wanted: int | None, key: str) -> int:
    """Return the stage to compare: the wanted one, or the middle one counting the stem as 0.

    Raises:
        UnsupportedPair: the network shows no maps, or has no such stage.
    """
    count = len(network.stages)
    if count == 0:
        raise UnsupportedPair(f"fitnet needs feature maps, and {network.name} shows none")
    if wanted is not None and wanted >= count:
        raise UnsupportedPair(
            f"{network.name} has stages 0 to {count - 1}, not {wanted}", hint=f"--set method.fitnet.{key}={count // 2}"
        )
    return count // 2 if wanted is None else wanted
