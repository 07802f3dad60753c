"""What all networks of the zoo share: taps, timm's model interface, and the registration with timm."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn import functional as F

CIFAR100_MEAN = (0.5071, 0.4866, 0.4409)
CIFAR100_STD = (0.2675, 0.2565, 0.2761)

Builder = Callable[..., nn.Module]
Noted = list[Tensor] | None  # where pre-activation maps are collected; None when nobody asked for them


class Stage(nn.Sequential):
    """Blocks in a row; the last one notes its pre-activation map when it is given a list for it."""

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the activated (B, C, H, W) map of the last block."""
        *first, last = self
        for block in first:
            x = block(x)
        result: Tensor = last(x, noted)
        return result


class Tail(nn.Module):
    """Layers from a stage's map to one vector: stages, what the family has behind its last one, average pooling.

    Args:
        stages, rest: the layers. width: D of the vectors (B, D). initialise: sets a layer's first values where they
            are not torch's own.
    """

    def __init__(
        self, stages: Sequence[nn.Module], rest: nn.Module, width: int, initialise: Callable[[nn.Module], None]
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self.rest = rest
        self.width = width
        self._initialise = initialise
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the family does; from torch's global generator."""
        for layer in (self.stages, self.rest):
            for module in layer.modules():
                draw = getattr(module, "reset_parameters", None)
                if draw is not None:
                    draw()
            layer.apply(self._initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D) from a map (B, C, H, W), with gradient."""
        final: Tensor = self.rest(self.stages(x))
        return final.mean((2, 3))


class ZooNetwork(nn.Module):
    """A stem, a few stages, a tail, and a head of global pooling and one linear layer.

    The tap protocol is `forward_taps`: one pass gives the maps of the stem and of every stage, and, when asked,
    the same maps as they are before their last activation. A family defines `_stage` (0 is the stem), `_tail`
    where something stands between the last stage and the head, `_initialise`, and for `make_tail` the making of a
    stage (`_fresh_stage`) and of that something (`_fresh_rest`).

    Attributes:
        feature_info: per map, ``num_chs`` (channels), ``reduction`` (input side over map side, at a 32x32 input)
            and ``module`` (dotted name of the module whose output is that map), as timm expects it.
        num_classes: width of the logits; 0 when the network has no classifier.
        num_features: channels of the map that the head takes.
        head_hidden_size: width of the vector in front of the classifier.
    """

    paper: ClassVar[str]  # "arXiv:..." of the architecture
    stem_module: ClassVar[str]
    stage_modules: ClassVar[tuple[tuple[str, ...], ...]]  # per stage after the stem, the modules that make it
    tail_modules: ClassVar[tuple[str, ...]] = ()
    classifier_name: ClassVar[str] = "fc"
    first_conv: ClassVar[str] = "conv1"

    def _finish(
        self,
        *,
        channels: Sequence[int],
        reductions: Sequence[int],
        num_classes: int,
        in_chans: int,
        global_pool: str,
        drop_rate: float,
        num_features: int | None = None,
    ) -> None:
        """Describe the maps, add the head and set the initial weights: the last step of every constructor."""
        modules = (self.stem_module, *(names[-1] for names in self.stage_modules))
        self.feature_info: list[dict[str, int | str]] = [
            {"num_chs": width, "reduction": reduction, "module": module}
            for width, reduction, module in zip(channels, reductions, modules, strict=True)
        ]
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = num_features or channels[-1]
        self.last_stage = len(self.stage_modules)
        self.has_tail = True
        self._set_head(num_classes, global_pool)
        self.apply(self._initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, K) logits of (B, in_chans, H, W) images."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the (B, num_features, H', W') map that `forward_head` takes."""
        return self._walk(x, self.last_stage)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the (B, K) logits, or with ``pre_logits`` the (B, num_features) vector in front of the classifier.

        ``drop_rate`` acts on that vector, in training only.
        """
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        logits: Tensor = x if pre_logits else self.get_classifier()(x)
        return logits

    def forward_taps(self, x: Tensor, *, preacts: bool = False) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run the network up to its head once and hand out the maps on the way; gradients flow through all of them.

        Args:
            x: (B, in_chans, H, W) normalised images.
            preacts: whether the maps before the last activation of each stage are wanted too.

        Returns:
            The map that `forward_head` takes; the maps of stem, stage 1, stage 2, ...; and the pre-activation maps
            of the same places and shapes, an empty list when ``preacts`` is false. The stem's entry is the stem's
            map itself in both lists. BatchNorm statistics move once per call, whatever is asked.
        """
        maps: list[Tensor] = []
        noted: list[Tensor] = []
        final = self._walk(x, self.last_stage, maps, noted if preacts else None)
        return final, maps, noted

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the final map and the chosen stage maps in ascending order; timm's interface.

        Args:
            x: (B, in_chans, H, W) normalised images.
            indices: an int takes the last n maps, None all, a sequence those (0 is the stem, negative from the end).
            norm: accepted for timm's sake and without effect, no network here has a norm apart from its stages' own.
            stop_early: end after the last chosen map, which is then also returned as the final map.
            output_fmt: "NCHW" only.
            intermediates_only: return the list alone.

        Raises:
            ValueError: another ``output_fmt``.
            AssertionError: an index that does not exist (raised by timm).
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        taken, furthest = feature_take_indices(len(self.feature_info), indices)
        skip_rest = stop_early or intermediates_only
        maps: list[Tensor] = []
        final = self._walk(x, furthest if skip_rest else self.last_stage, maps, tail=not skip_rest)
        chosen = [one for index, one in enumerate(maps) if index in taken]
        return chosen if intermediates_only else (final, chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what is not needed for the chosen maps (timm's ``features_only`` does) and return their indices.

        Stages after the furthest chosen map go, and with them tail and classifier; ``prune_norm`` drops the tail,
        ``prune_head`` the classifier, in any case.
        """
        taken: list[int]
        taken, furthest = feature_take_indices(len(self.feature_info), indices)
        cut = furthest < self.last_stage
        for names in self.stage_modules[furthest:]:
            self._drop(names)
        self.last_stage = furthest
        if cut or (prune_norm and self.tail_modules):
            self._drop(self.tail_modules)
            self.has_tail = False
            self.num_features = self.head_hidden_size = int(self.feature_info[furthest]["num_chs"])
        if prune_head or not self.has_tail:
            self.reset_classifier(0, "")
        return taken

    def make_tail(self, stage: int) -> Tail:
        """Make the layers behind a stage anew, with random weights of their own: a branch off the network's trunk.

        Behind the last stage stands one more of its kind, which keeps the map's size. All weights are drawn from
        torch's global generator, on the CPU; dropout is left out.

        Args:
            stage: position in `feature_info`, 0 is the stem.

        Returns:
            a module from that stage's map (B, C, H, W) to vectors (B, D); its attribute ``width`` is D.

        Raises:
            ValueError: there is no such stage, or the network was pruned.

        Source: the auxiliary classifiers of Yang et al. 2021, arXiv:2107.13715, without their linear layer.
        """
        last = len(self.stage_modules)
        if self.last_stage < last or not self.has_tail:
            raise ValueError(f"{type(self).__name__} was pruned: nothing stands behind stage {self.last_stage}")
        if not 0 <= stage <= last:
            raise ValueError(f"stage must be in [0, {last}], got {stage}")
        if stage == last:
            stages = [self._fresh_stage(last, again=True)]
        else:
            stages = [self._fresh_stage(index) for index in range(stage + 1, last + 1)]
        return Tail(stages, self._fresh_rest(), self.num_features, self._initialise)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer, or an identity when there is none."""
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier of ``num_classes`` (0: none) in place; ``global_pool`` None keeps the pooling."""
        self._set_head(num_classes, self.global_pool.pool_type if global_pool is None else global_pool)
        self.get_classifier().apply(self._initialise)

    def _set_head(self, num_classes: int, global_pool: str) -> None:
        self.num_classes = num_classes
        self.global_pool, classifier = create_classifier(self.num_features, num_classes, pool_type=global_pool)
        parent, _, leaf = self.classifier_name.rpartition(".")
        setattr(self.get_submodule(parent), leaf, classifier)

    def _walk(
        self, x: Tensor, last: int, maps: list[Tensor] | None = None, noted: Noted = None, *, tail: bool = True
    ) -> Tensor:
        """Run stem and stages up to number ``last``, and the tail behind the very last one."""
        for index in range(last + 1):
            x = self._stage(index, x, noted)
            if maps is not None:
                maps.append(x)
        return self._tail(x, noted) if tail and self.has_tail and last == len(self.stage_modules) else x

    def _stage(self, index: int, x: Tensor, noted: Noted) -> Tensor:
        """Return the map of stage ``index`` (0 is the stem); append its pre-activation map to ``noted`` if given."""
        raise NotImplementedError

    def _tail(self, x: Tensor, noted: Noted) -> Tensor:
        """Return the map that the head takes from the map of the last stage."""
        return x

    def _fresh_stage(self, index: int, *, again: bool = False) -> nn.Module:
        """Make a module as stage ``index`` >= 1 is; ``again`` to stand behind that stage, where it keeps the size."""
        raise NotImplementedError

    def _fresh_rest(self) -> nn.Module:
        """Make a module as `_tail` is."""
        return nn.Identity()

    def _shape(self, index: int, again: bool) -> tuple[int, int, int]:
        """Return what makes a stage for `_fresh_stage`: channels of its input, channels of its map, and its stride."""
        before, own = self.feature_info[index if again else index - 1], self.feature_info[index]
        return int(before["num_chs"]), int(own["num_chs"]), int(own["reduction"]) // int(before["reduction"])

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Set initial weights: convolutions N(0, 2 / (k * k * out channels)), BatchNorm 1 and 0, linear as torch does.

        This is what the official code of the residual networks does (He et al. 2015, arXiv:1502.01852, fan-out mode).
        """
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def _drop(self, names: Sequence[str]) -> None:
        for name in names:
            parent, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(parent), leaf, nn.Identity())


def activate(x: Tensor, noted: Noted = None, *, held: Tensor | None = None) -> Tensor:
    """Note ``x`` if anybody wants it, and return its ReLU.

    ``x`` is overwritten where nobody else may hold it: neither noted nor the very tensor ``held`` (what a BatchNorm was
    given is what it returns, once it is folded into a convolution).
    """
    return F.relu(note(x, noted), inplace=noted is None and x is not held)


def note(x: Tensor, noted: Noted) -> Tensor:
    """Append ``x`` to ``noted`` if anybody wants it, and pass it on."""
    if noted is not None:
        noted.append(x)
    return x


def variant(name: str, network: type[ZooNetwork], **arguments: Any) -> Builder:
    """Register ``network(**arguments)`` with timm as ``name`` and return the function that builds it.

    Keywords given to `timm.create_model` go before ``arguments``. The settings that timm keeps per name
    (``default_cfgs``) are put into the module that defines ``network``, where timm looks for them.
    """

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        taps = tuple(range(len(network.stage_modules) + 1))
        model: nn.Module = build_model_with_cfg(
            network,
            name,
            pretrained,
            feature_cfg={"feature_cls": "getter", "out_indices": taps},
            pretrained_filter_fn=getattr(sys.modules[network.__module__], "checkpoint_filter_fn", None),
            **{**arguments, **kwargs},
        )
        return model

    build.__name__ = build.__qualname__ = name
    build.__module__ = network.__module__
    build.__doc__ = f"Build `{name}`; keywords as in `timm.create_model`."
    settings = vars(sys.modules[network.__module__])
    settings.setdefault("default_cfgs", {}).update(generate_default_cfgs({name: _settings(network)}))
    registered: Builder = register_model(build)
    return registered


def _settings(network: type[ZooNetwork]) -> dict[str, Any]:
    """Return what timm keeps about a network: how its images are prepared and which layers depend on the data."""
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": CIFAR100_MEAN,
        "std": CIFAR100_STD,
        "first_conv": network.first_conv,
        "classifier": network.classifier_name,
        "paper_ids": network.paper,
    }
