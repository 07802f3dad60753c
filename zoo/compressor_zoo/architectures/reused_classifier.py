"""A student up to its last feature map, a projector, and its teacher's classifier: what the method SimKD publishes.

Chen et al. 2022, arXiv:2203.14001. It is built from the arguments in a published folder; on its own it has no student
and cannot be built.
"""

from collections.abc import Mapping
from typing import Any

import timm
from timm.models import DefaultCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from compressor_zoo.architectures.base import CIFAR100_MEAN, CIFAR100_STD

default_cfgs: dict[str, DefaultCfg] = generate_default_cfgs(
    {
        "zoo_reused_classifier": {
            "url": "",
            "num_classes": 100,
            "input_size": (3, 32, 32),
            "pool_size": None,
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": CIFAR100_MEAN,
            "std": CIFAR100_STD,
            "first_conv": None,
            "classifier": "classifier",
            "paper_ids": "arXiv:2203.14001",
        }
    }
)


class ReusedClassifier(nn.Module):
    """Images to logits through a student's last map, a projector and global pooling.

    Attributes:
        num_features: width of the vector in front of the classifier, the teacher's embedding.
    """

    def __init__(
        self,
        *,
        student: str = "",
        student_args: Mapping[str, Any] | None = None,
        width: int = 0,
        reduction: int = 2,
        rectified: bool = True,
        size: tuple[int, int] | list[int] | None = None,
        num_classes: int = 100,
        in_chans: int = 3,
    ) -> None:
        """Build the network.

        Args:
            student: name of an architecture that timm knows. student_args: for it, beside classes and channels.
            width: of the teacher's embedding. reduction: ``width`` over that of the projector's inner layers.
            rectified: whether the projector ends in ReLU.
            size: (H, W) that the student's map is averaged to; None leaves it.
            num_classes: of the logits. in_chans: channels of the images.

        Raises:
            ValueError: ``student`` or ``width`` is missing, or the student does not show its maps.
        """
        super().__init__()
        if not student or width < 1:
            raise ValueError("it is built from a published folder, which names student= and width=")
        trunk: Any = timm.create_model(
            student, **{"num_classes": num_classes, "in_chans": in_chans, **(student_args or {})}
        )
        if not hasattr(trunk, "forward_intermediates"):
            raise ValueError(f"{student} does not show its feature maps: it has no forward_intermediates")
        if hasattr(trunk, "prune_intermediate_layers"):
            trunk.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
        channels = int(trunk.feature_info[-1]["num_chs"])
        self.student: nn.Module = trunk
        self.projector = _projector(channels, width, max(1, width // reduction), rectified=rectified)
        self.classifier: nn.Module = nn.Linear(width, num_classes)
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = width

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, K) logits of (B, in_chans, H, W) images."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the projected map (B, width, H', W')."""
        trunk: Any = self.student
        maps = trunk.forward_intermediates(x, output_fmt="NCHW", intermediates_only=True)[-1]
        if self.size is not None:
            maps = F.adaptive_avg_pool2d(maps, self.size)
        projected: Tensor = self.projector(maps)
        return projected

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the (B, K) logits of a projected map, or with ``pre_logits`` the (B, width) vector."""
        vectors = x.mean((2, 3))
        logits: Tensor = vectors if pre_logits else self.classifier(vectors)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the linear layer that was the teacher's."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier of ``num_classes`` (0: none) in place; the pooling is always the mean."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def _projector(channels: int, width: int, inner: int, *, rectified: bool) -> nn.Sequential:
    """Make convolutions 1x1, 3x3 and 1x1, each with batch normalisation and ReLU, the last one only if rectified."""
    sizes = ((channels, inner, 1), (inner, inner, 3), (inner, width, 1))
    layers: list[nn.Module] = []
    for before, after, kernel in sizes:
        convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*(layers if rectified else layers[:-1]))


@register_model
def zoo_reused_classifier(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build `ReusedClassifier`; keywords as there."""
    model: nn.Module = build_model_with_cfg(ReusedClassifier, "zoo_reused_classifier", pretrained, **kwargs)
    return model
