"""CRD: student and teacher of the same image are brought together, those of other classes are driven apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Negatives, Pair, Terms
from compressor.errors import UnsupportedPair
from compressor.matching import link_embeddings
from compressor.modules import UnitEmbedding
from compressor.supervision import Supervision, supervised_terms

_EPSILON = 1e-7
_USUAL_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class CRDConfig(Supervision):
    """Settings of CRD; the defaults are those of the authors' CIFAR-100 code."""

    crd_weight: float = 0.8  # >= 0, of the contrast
    feature_dim: int = 128  # >= 1, width of both embeddings
    negatives: int = 16384  # >= 1, samples of other classes each sample is contrasted with
    temperature: float = 0.07  # > 0, of the scores
    momentum: float = 0.5  # in [0, 1), share of the old value in a memory's update
    positive: Literal["exact", "relaxed"] = "exact"  # the sample itself, or any of its class

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self, positive=("temperature",), not_negative=("crd_weight",), at_least_one=("feature_dim", "negatives")
        )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"crd.momentum must be in [0, 1), got {self.momentum}")


class CRD(Distiller[CRDConfig]):
    """Tian, Krishnan and Isola, ICLR 2020, arXiv:1910.10699; needs embeddings, sample positions and negatives.

    Two memories hold the last embedding of every training image, one a network. They are saved with each checkpoint
    and never published.
    """

    name = "crd"
    Config = CRDConfig
    capturable = "phase"

    def __init__(self, config: CRDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.embed_student = UnitEmbedding(pair.student.embedding_width, config.feature_dim)
        self.embed_teacher = UnitEmbedding(pair.require_teacher(self.name).embedding_width, config.feature_dim)
        self.student_memory: Tensor
        self.teacher_memory: Tensor
        self.student_constant: Tensor
        self.teacher_constant: Tensor
        for owner in ("student", "teacher"):
            self.register_buffer(f"{owner}_memory", _first_memory(pair.train_size, config.feature_dim))
            self.register_buffer(f"{owner}_constant", torch.tensor(-1.0))
        self._pending: list[tuple[int, Tensor, Tensor]] = []

    @classmethod
    def needs_for(cls, config: CRDConfig) -> Needs:
        """Return embeddings, positions, and as many negatives as are set."""
        return Needs(embedding=True, index=True, negatives=Negatives(config.negatives, config.positive))

    @classmethod
    def check(cls, config: CRDConfig, pair: Pair) -> None:
        """Refuse a training set in which a sample has none of another class to be contrasted with."""
        if sum(count > 0 for count in pair.class_counts) < 2:
            raise UnsupportedPair("crd contrasts classes, and the training set has fewer than two")

    @classmethod
    def memory_bytes(cls, config: CRDConfig, pair: Pair) -> int:
        """Count the two memories, and for batches of 64 the scores, indices and their gradients, in bytes."""
        memories = 2 * 4 * pair.train_size * config.feature_dim
        columns = pair.train_size if _whole(pair.train_size, config.negatives) else config.negatives
        return memories + _USUAL_BATCH * (8 * config.negatives + 2 * 3 * 4 * max(columns, config.negatives))

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``crd`` and, with a weight, ``kd``."""
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "crd": self.config.crd_weight * self.contrast(batch, student.embedding, teacher.embedding),
        }

    def plan(self) -> Sequence[Link]:
        """Return the two embeddings on their common sphere."""
        both = nn.ModuleList([self.embed_student, self.embed_teacher])
        return [link_embeddings(self.pair, f"a linear layer each, to {self.config.feature_dim} on a sphere", both)]

    def contrast(self, batch: Batch, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return the contrast of both sides, unweighted: the student against the teacher's memory and the reverse.

        Args:
            student_embedding: (N, D), with gradient. teacher_embedding: (N, D'), detached; its own layer is trained.

        Returns:
            0-d tensor, nats, >= 0 up to rounding (paper, equations 17 and 18).
        """
        student = self.embed_student(student_embedding)
        teacher = self.embed_teacher(teacher_embedding.detach())
        kept = [item for item in self._pending if item[0] == batch.step]
        self._pending = [*kept, (batch.step, student.detach(), teacher.detach())]
        of_student = exponential_scores(student, self.teacher_memory, batch.contrast, self.config.temperature)
        of_teacher = exponential_scores(teacher, self.student_memory, batch.contrast, self.config.temperature)
        self._set_constant(self.student_constant, of_student, batch)
        self._set_constant(self.teacher_constant, of_teacher, batch)
        size = self.student_memory.shape[0]
        return contrast_loss(of_student / self.student_constant, size) + contrast_loss(
            of_teacher / self.teacher_constant, size
        )

    def after_step(self, batch: Batch) -> None:
        """Move both memories towards what the micro-batch was embedded as, on every process alike."""
        if not self._pending:
            return
        _, student, teacher = self._pending.pop(0)
        index = batch.gather(batch.index)
        momentum = self.config.momentum
        for memory, latest in ((self.student_memory, student), (self.teacher_memory, teacher)):
            memory[index] = F.normalize(
                momentum * memory[index] + (1 - momentum) * batch.gather(latest).to(memory.dtype), dim=1
            )

    def _set_constant(self, constant: Tensor, scores: Tensor, batch: Batch) -> None:
        """Fix the normalising constant at the first batch: mean score times the size of the training set."""
        mean = batch.gather(scores.detach().mean().view(1)).mean() * self.student_memory.shape[0]
        constant.copy_(torch.where(constant < 0, mean.to(constant.dtype), constant))


def exponential_scores(anchors: Tensor, memory: Tensor, columns: Tensor, temperature: float) -> Tensor:
    """Return ``exp(anchor . memory / T)`` for the memory's rows that each anchor is compared with.

    Large sets of columns are taken out of one matrix product, small ones are gathered first; the numbers are the same.

    Args:
        anchors: (N, F) unit vectors. memory: (n, F), no gradient. columns: (N, 1 + K) int64. temperature: > 0.

    Returns:
        (N, 1 + K), > 0.
    """
    products: Tensor
    if _whole(memory.shape[0], columns.shape[1]):
        products = (anchors @ memory.T.to(anchors.dtype)).gather(1, columns)
    else:
        products = torch.einsum("nf,nkf->nk", anchors, memory[columns].to(anchors.dtype))
    return torch.exp(products / temperature)


def contrast_loss(scores: Tensor, size: int) -> Tensor:
    """Noise-contrastive loss with uniform noise.

    Args:
        scores: (N, 1 + K) normalised scores, the positive in column 0. size: n of the training set.

    Returns:
        0-d tensor: ``-mean_N [log h(positive) + sum_K log(1 - h(negative))]`` with ``h(s) = s / (s + K / n)``.

    Source: Tian et al. 2020, equation 19; the constant 1e-7 in the denominators is that of the authors' code.
    """
    noise = (scores.shape[1] - 1) / size
    positive, negative = scores[:, 0], scores[:, 1:]
    right = torch.log(positive / (positive + noise + _EPSILON)).sum()
    wrong = torch.log(noise / (negative + noise + _EPSILON)).sum()
    total: Tensor = -(right + wrong) / scores.shape[0]
    return total


def _whole(size: int, columns: int) -> bool:
    return size <= 16 * columns


def _first_memory(size: int, feature_dim: int) -> Tensor:
    """Uniform values whose rows have length one on average; they are not normalised, as in the authors' code."""
    bound = (3.0 / feature_dim) ** 0.5
    return torch.empty(size, feature_dim).uniform_(-bound, bound)
