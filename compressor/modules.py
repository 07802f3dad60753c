"""Trainable parts that methods put beside the networks: projection heads, embeddings, regressors, contrast banks."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import StageSpec
from compressor.functional import mean_of_rows


def projection_head(width: int) -> nn.Sequential:
    """Make Linear, ReLU, Linear of one width: (B, width) to (B, width).

    The children are numbered 0, 1, 2, as in published SSKD checkpoints (``proj_head.0.*`` and ``proj_head.2.*``).

    Source: Xu et al. 2020, arXiv:2006.07114, section 3.1.
    """
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class UnitEmbedding(nn.Module):
    """A linear map onto the unit sphere: (B, in) to (B, out), each row of length 1 (a zero row stays zero).

    Source: Tian et al. 2020, arXiv:1910.10699, section 3.2; with a bias, as in the authors' code.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, vectors: Tensor) -> Tensor:
        """Embed (B, in) vectors."""
        return F.normalize(self.linear(vectors), dim=1)


class HintRegressor(nn.Module):
    """Brings a student's feature map to the width and size of a teacher's: convolution, BatchNorm, ReLU.

    With s the student's and t the teacher's size of a map (both directions of it):

    * s = 2 t: 3x3, stride 2;
    * 2 s = t: transposed 4x4, stride 2;
    * s >= t: no padding, kernel 1 + s - t (1x1 for equal maps);
    * otherwise the student's map cannot reach the teacher's: it keeps its size in the direction where it is smaller,
      and `match` averages the teacher's map down to it.

    Args:
        student, teacher: shapes of the two maps.

    Attributes:
        size: (height, width) of what comes out.

    Source: Romero et al. 2015, arXiv:1412.6550, section 2.2; the first three geometries are those of the RepDistiller
    benchmark, the fourth, which it refuses, is ours.
    """

    def __init__(self, student: StageSpec, teacher: StageSpec) -> None:
        super().__init__()
        small, large = (student.height, student.width), (teacher.height, teacher.width)
        self.size = large
        if small == (2 * large[0], 2 * large[1]):
            self.conv: nn.Module = nn.Conv2d(student.channels, teacher.channels, 3, stride=2, padding=1)
        elif large == (2 * small[0], 2 * small[1]):
            self.conv = nn.ConvTranspose2d(student.channels, teacher.channels, 4, stride=2, padding=1)
        else:
            self.size = (min(small[0], large[0]), min(small[1], large[1]))
            kernel = (1 + small[0] - self.size[0], 1 + small[1] - self.size[1])
            self.conv = nn.Conv2d(student.channels, teacher.channels, kernel)
        self.bn = nn.BatchNorm2d(teacher.channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, student_map: Tensor) -> Tensor:
        """Regress (B, C_student, H, W) to (B, C_teacher, *size), >= 0."""
        answer: Tensor = self.relu(self.bn(self.conv(student_map)))
        return answer

    def match(self, teacher_map: Tensor) -> Tensor:
        """Average the teacher's map (B, C, H, W) down to `size`, where it is larger than the regressor can reach."""
        if teacher_map.shape[-2:] == self.size:
            return teacher_map
        return F.adaptive_avg_pool2d(teacher_map, self.size)


class ContrastBank(nn.Module):
    """Remembers an embedding of every training sample by both networks, and contrasts new ones with them.

    Nothing here is trained. `loss` reads the banks, `update` alone writes them.

    Args:
        samples: n > 0, training images. width: D of an embedding.
        temperature: T > 0 of the scores. momentum: in [0, 1), share of the old embedding that stays in an update.

    Attributes:
        student, teacher: (n, D) banks; at first uniform in +-sqrt(3 / D), so of length about 1.
        scale: (2,) normalisers of the scores of student and teacher; -1 until the first batch sets them, for good.

    Source: Tian et al. 2020, arXiv:1910.10699, section 3.2 and appendix; the constants are those of the authors' code.
    """

    student: Tensor
    teacher: Tensor
    scale: Tensor

    def __init__(self, samples: int, width: int, *, temperature: float, momentum: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.momentum = momentum
        bound = math.sqrt(3 / width)
        self.register_buffer("student", torch.empty(samples, width).uniform_(-bound, bound))
        self.register_buffer("teacher", torch.empty(samples, width).uniform_(-bound, bound))
        self.register_buffer("scale", torch.full((2,), -1.0))
        self._scaled = False
        self.register_load_state_dict_post_hook(_look_at_scale_again)

    def scores(self, student: Tensor, teacher: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor]:
        """Return how near each embedding is to what the OTHER network remembers of the contrast samples.

        Args:
            student, teacher: (B, D) of length 1; the gradient reaches them. contrast: (B, 1 + K) positions.

        Returns:
            two (B, 1 + K): of the student against the teacher's bank and of the teacher against the student's; inner
            products divided by the temperature.
        """
        return (
            _chosen_products(student, self.teacher, contrast) / self.temperature,
            _chosen_products(teacher, self.student, contrast) / self.temperature,
        )

    def loss(self, student: Tensor, teacher: Tensor, contrast: Tensor, estimate: Tensor | None = None) -> Tensor:
        """Measure how badly the positives (column 0) can be told from K noise samples; both directions added.

        With ``P = exp(score) / Z`` and ``c = K / n`` it is ``-log(P_0 / (P_0 + c)) - sum_k log(c / (P_k + c))``, mean
        over the batch, 1e-7 added to each denominator.

        Args:
            student, teacher, contrast: as for `scores`.
            estimate: (2,) normalisers to use and keep where none are set; None: those of this batch alone.

        Returns:
            0-d tensor, nats, >= 0; the gradient reaches both embeddings.
        """
        both = self.scores(student, teacher, contrast)
        if not self.is_scaled:
            self._set_scale(self.normalisers(*both) if estimate is None else estimate)
        scale = self.scale.clone()  # a later write to the buffer must not touch what the backward pass keeps
        return torch.stack([self._contrast(score, z) for score, z in zip(both, scale, strict=True)]).sum()

    def normalisers(self, student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
        """Estimate Z of both directions, (2,): n times the mean of exp(score). No gradient."""
        means = [scores.detach().exp().mean() for scores in (student_scores, teacher_scores)]
        return torch.stack(means) * len(self.student)

    @property
    def is_scaled(self) -> bool:
        """Whether the normalisers are set; looks at the device only until they are."""
        if not self._scaled:
            self._scaled = bool((self.scale > 0).all())
        return self._scaled

    @torch.no_grad()
    def update(self, index: Tensor, student: Tensor, teacher: Tensor) -> None:
        """Move the remembered embeddings of samples ``index`` (B,) towards new ones (B, D), back onto the sphere."""
        for bank, new in ((self.student, student), (self.teacher, teacher)):
            mixed = self.momentum * bank[index] + (1 - self.momentum) * new.to(bank.dtype)
            bank.index_copy_(0, index, F.normalize(mixed, dim=1))

    def _set_scale(self, estimate: Tensor) -> None:
        with torch.no_grad():
            self.scale.copy_(estimate)

    def _contrast(self, scores: Tensor, scale: Tensor) -> Tensor:
        count = scores.shape[1] - 1
        noise = count / len(self.student)
        likelihood = scores - scale.log()
        against = torch.log(likelihood.exp() + (noise + 1e-7))
        positive = likelihood[:, 0] - against[:, 0]
        negative = (math.log(noise) - against[:, 1:]).sum(dim=1)
        return -mean_of_rows(positive + negative)


def _look_at_scale_again(bank: nn.Module, _keys: object) -> None:
    assert isinstance(bank, ContrastBank)
    bank._scaled = False


# Products with the whole bank are one matrix product; those with chosen rows first copy the rows. Per product the
# copy costs this many times more.
_COPY_COST = 16


def _chosen_products(vectors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    """Return the inner products (B, M) of ``vectors`` (B, D) with the bank's rows ``chosen`` (B, M), the cheaper way."""
    if len(bank) <= _COPY_COST * chosen.shape[1]:
        return (vectors @ bank.detach().clone().T).gather(1, chosen)
    return torch.bmm(bank.detach()[chosen], vectors[:, :, None]).squeeze(2)
