"""Trainable parts that methods put beside the networks: projection heads, unit embeddings, regressors of maps."""

from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import StageSpec


def projection_head(width: int) -> nn.Sequential:
    """Make Linear, ReLU, Linear of one width: (B, width) to (B, width), with gradient.

    The keys ``0`` and ``2`` are those of published SSKD checkpoints (``proj_head.0.*``, ``proj_head.2.*``).

    Source: Xu et al. 2020, arXiv:2006.07114, section 3.1.
    """
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class UnitEmbedding(nn.Module):
    """A linear layer and division by the length: (B, D) to (B, F), rows of length 1.

    Args:
        width: D.
        feature_dim: F.

    Source: Tian et al. 2020, arXiv:1910.10699, section 3.2; with a bias, as in the authors' code.
    """

    def __init__(self, width: int, feature_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, feature_dim)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return unit vectors, with gradient; what the linear layer makes zero stays zero."""
        return F.normalize(self.linear(embeddings), dim=1)


class MapRegressor(nn.Module):
    """Convolution, batch normalisation and ReLU from a student's feature map to the size of a teacher's.

    With s the student's size and t the teacher's, height and width alike:

    * s = 2 t: kernel 3, stride 2;
    * 2 s = t: transposed, kernel 4, stride 2;
    * s >= t: kernel 1 + s - t without padding, so 1 for equal maps;
    * a student's map that is smaller in any other way keeps its size there: average the teacher's down to it.

    Args:
        student: channels and size of the student's map.
        teacher: those of the teacher's.
        activate: whether the ReLU stands at the end; without it pre-activations can be met.

    Source: Romero et al. 2015, arXiv:1412.6550, section 2.2. The first three geometries are those of the CIFAR-100
    benchmark RepDistiller, which refuses the fourth.
    """

    def __init__(self, student: StageSpec, teacher: StageSpec, *, activate: bool = True) -> None:
        super().__init__()
        self.conv = _convolution(student, teacher)
        self.bn = nn.BatchNorm2d(teacher.channels)
        self.activate = activate

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C of the teacher, H, W) from the student's (B, C, H, W), with gradient; >= 0 with the ReLU."""
        regressed: Tensor = self.bn(self.conv(maps))
        return F.relu(regressed) if self.activate else regressed


def _convolution(student: StageSpec, teacher: StageSpec) -> nn.Module:
    sizes = ((student.height, teacher.height), (student.width, teacher.width))
    if all(own == 2 * other for own, other in sizes):
        return nn.Conv2d(student.channels, teacher.channels, kernel_size=3, stride=2, padding=1)
    if all(2 * own == other for own, other in sizes):
        return nn.ConvTranspose2d(student.channels, teacher.channels, kernel_size=4, stride=2, padding=1)
    (own_height, height), (own_width, width) = sizes
    kernel = (max(1, 1 + own_height - height), max(1, 1 + own_width - width))
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=kernel)
