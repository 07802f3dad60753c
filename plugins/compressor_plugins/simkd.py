"""SimKD: the student learns the teacher's last feature map, and the teacher's own classifier then reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import (
    Batch,
    Distiller,
    ExtendedStudent,
    Link,
    ModelOutput,
    Needs,
    NetworkSpec,
    Pair,
    Phase,
    Terms,
    shared_copy,
)
from compressor.errors import UnsupportedPair
from compressor.functional import averaged_alike, wide
from compressor.matching import link_stages, match_last
from compressor.supervision import Supervision, supervised_terms

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SimKDConfig(Supervision):
    """Settings of SimKD; the defaults are the paper's: features alone, no labels, no logit term."""

    ce_weight: float = 0.0  # >= 0, of the labels, on what the teacher's classifier makes of the student's features
    feature_weight: float = 1.0  # >= 0, of the mean squared error between the features
    reduction: int = 2  # >= 1, the teacher's width over the projector's inner width

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("feature_weight",), at_least_one=("reduction",))


class SimKD(Distiller[SimKDConfig]):
    """Chen et al., CVPR 2022, arXiv:2203.14001; needs the last maps, embeddings and the teacher's classifier.

    Its product is the student without its own classifier, with the projector and the teacher's classifier behind it.

    Maps are compared where the teacher's embedding is the mean of its last map, as in the paper. Where something else
    stands between the two (a normalisation, a convolution, attention) the projected map is averaged and compared with
    the embedding, so that the classifier always reads what it was trained on.
    """

    name = "simkd"
    Config = SimKDConfig
    capturable = "phase"
    needs = Needs(stages=True, embedding=True, classifier=True)
    exports_extras = True

    def __init__(self, config: SimKDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.compares_maps = teacher.pooled_embedding
        self.size = _smaller_size(pair.student, teacher) if self.compares_maps else None
        self.projector = make_projector(
            pair.student.stages[-1].channels,
            teacher.embedding_width,
            config.reduction,
            rectified=self.compares_maps,
        )
        self.classifier = teacher.copy_classifier()

    @classmethod
    def check(cls, config: SimKDConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and a teacher whose classifier is no layer on its embedding."""
        match_last(pair, cls.name)
        teacher = pair.require_teacher(cls.name)
        taken = getattr(teacher.copy_classifier(), "in_features", None)
        if taken != teacher.embedding_width:
            raise UnsupportedPair(
                f"simkd reuses the teacher's classifier, and that of {teacher.name} takes {taken} numbers "
                f"where its embedding has {teacher.embedding_width}",
                hint="a method that needs no classifier: --method crd",
            )

    def phases(self) -> Sequence[Phase]:
        """Return the one phase, which reads of the teacher what is compared; its classifier does not train."""
        read = Needs(stages=True) if self.compares_maps else Needs(stages="student", embedding="teacher")
        return (Phase(name="student", trains=("student", "projector"), terms=self.terms, needs=read),)

    def plan(self) -> Sequence[Link]:
        """Return the last maps, or the last map and the teacher's embedding, with the projector between them."""
        words = "1x1, 3x3 and 1x1 convolution, kept with the teacher's classifier"
        link = link_stages(self.pair, match_last(self.pair, self.name), words, self.projector)
        if self.compares_maps:
            return [link]
        width = self.pair.require_teacher(self.name).embedding_width
        return [
            Link(
                student=link.student,
                teacher=f"embedding {width}",
                adapter=f"{words}; averaged to a vector",
                parameters=link.parameters,
            )
        ]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``feature`` and, with a weight, ``ce`` and ``kd``, which look at the reused classifier's logits."""
        projected = self.projector(averaged_to(student.stages[-1], self.size))
        embedding = projected.mean((2, 3))
        answer = ModelOutput(logits=self.classifier(embedding), owner="student")
        if self.compares_maps:
            loss = feature_loss(projected, averaged_alike(projected, teacher.stages[-1])[1])
        else:
            loss = feature_loss(embedding, teacher.embedding)
        config = self.config
        named = {"ce": config.ce_weight, "kd": config.kd_weight}
        supervised = supervised_terms(config, batch, answer, teacher) if any(named.values()) else {}
        weighted = {name: term for name, term in supervised.items() if named[name]}
        return {**weighted, "feature": config.feature_weight * loss}

    def export(self, student: nn.Module) -> nn.Module:
        """Return the student up to its last map, the projector, and the teacher's classifier, as one network."""
        return ReusedClassifier(student, self.projector, self.classifier, self.size, self._model_args())

    def _model_args(self) -> dict[str, Any]:
        return {
            "width": self.pair.require_teacher(self.name).embedding_width,
            "reduction": self.config.reduction,
            "rectified": self.compares_maps,
            "size": None if self.size is None else list(self.size),
        }


class ReusedClassifier(ExtendedStudent):
    """What SimKD leaves: images to logits, through the student's last map, the projector, the teacher's classifier.

    Args:
        student: whose layers behind its last map are left out, where it can say which these are.
        projector, classifier: shared, not copied. size: that the student's map is averaged to; None leaves it.
        model_args: of the architecture ``zoo_reused_classifier``.
    """

    def __init__(
        self,
        student: nn.Module,
        projector: nn.Module,
        classifier: nn.Module,
        size: Size | None,
        model_args: dict[str, Any],
    ) -> None:
        super().__init__(
            _trunk(student),
            {"the projector": projector, "the teacher's classifier": classifier},
            architecture="zoo_reused_classifier",
            model_args=model_args,
        )
        self.projector = shared_copy(projector)
        self.classifier = shared_copy(classifier)
        self.size = size
        self.num_features = int(model_args["width"])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, K) of images (B, C, H, W)."""
        projected = self.projector(averaged_to(last_map(self.student, images), self.size))
        logits: Tensor = self.classifier(projected.mean((2, 3)))
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the layer whose input is the embedding."""
        return self.classifier


def make_projector(channels: int, width: int, reduction: int, *, rectified: bool) -> nn.Sequential:
    """Make the projector: convolutions 1x1, 3x3 and 1x1 without bias, batch normalisation behind each, and ReLU.

    Args:
        channels: C of the student's map (B, C, H, W). width: D of the teacher's features.
        reduction: D over the width of the inner layers, which is at least 1.
        rectified: whether ReLU ends it too, as in the paper; without it features may be negative.

    Returns:
        a module from (B, C, H, W) to (B, D, H, W), with gradient.

    Source: Chen et al. 2022, arXiv:2203.14001, and the authors' code (github.com/DefangChen/SimKD).
    """
    inner = max(1, width // reduction)
    layers: list[nn.Module] = []
    for before, after, kernel in ((channels, inner, 1), (inner, inner, 3), (inner, width, 1)):
        layers += [
            nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*(layers if rectified else layers[:-1]))


def feature_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference over all elements.

    Args:
        student_features: (B, D, H, W) or (B, D), with gradient. teacher_features: of the same shape, detached.

    Returns:
        0-d tensor >= 0; 0 when both are equal.

    Source: Chen et al. 2022, arXiv:2203.14001, "feature alignment"; a mean over elements, as in the authors' code.
    """
    return F.mse_loss(wide(student_features), wide(teacher_features.detach()))


def averaged_to(maps: Tensor, size: Size | None) -> Tensor:
    """Average maps (B, C, H, W) to a size; None leaves them as they are."""
    return maps if size is None else F.adaptive_avg_pool2d(maps, size)


def last_map(network: nn.Module, images: Tensor) -> Tensor:
    """Return the last feature map (B, C, H, W) of any network, the one that `ModelOutput.stages` ends with."""
    taps: Any = network
    if hasattr(network, "forward_taps"):
        maps: list[Tensor] = taps.forward_taps(images)[1]
        return maps[-1]
    if hasattr(network, "forward_intermediates"):
        maps = taps.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
        return maps[-1]
    return _last_resolution(network, images)


def _last_resolution(network: nn.Module, images: Tensor) -> Tensor:
    """Return what the last module to answer at the last resolution gave, in a network that does not show its maps."""
    latest: dict[torch.Size, Tensor] = {}

    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-2:] != (1, 1):
            latest[output.shape[-2:]] = output

    handles = [module.register_forward_hook(record) for module in network.modules() if module is not network]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return list(latest.values())[-1]


def _trunk(student: nn.Module) -> nn.Module:
    """Return the student, its numbers shared, without what stands behind its last map, where it can drop that."""
    trunk: Any = shared_copy(student)
    if hasattr(trunk, "prune_intermediate_layers"):
        trunk.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
    return trunk  # type: ignore[no-any-return]  # a copy of a module is a module


def _smaller_size(student: NetworkSpec, teacher: NetworkSpec) -> Size | None:
    """Return the size at which the last maps meet, each axis the smaller one; None where that is the student's."""
    ours, theirs = student.stages[-1], teacher.stages[-1]
    size = (min(ours.height, theirs.height), min(ours.width, theirs.width))
    return None if size == (ours.height, ours.width) else size
