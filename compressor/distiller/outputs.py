"""What a network answered to a batch, limited to what was declared."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from compressor.distiller.needs import Needs
from compressor.errors import PluginError

_ValueT = TypeVar("_ValueT")


class ModelOutput:
    """What a network answered: only what was declared in `Needs` is there.

    Rows are image-major, view fastest: with V views, rows ``V * i .. V * i + V - 1`` belong to image i. Reading what
    was not declared raises `PluginError`, so that a method's declaration cannot fall behind its code.
    """

    __slots__ = ("_embedding", "_logits", "_owner", "_preacts", "_stages")

    def __init__(
        self,
        *,
        logits: Tensor | None = None,
        stages: tuple[Tensor, ...] | None = None,
        preacts: tuple[Tensor, ...] | None = None,
        embedding: Tensor | None = None,
        owner: str = "network",
    ) -> None:
        self._logits = logits
        self._stages = stages
        self._preacts = preacts
        self._embedding = embedding
        self._owner = owner

    @property
    def logits(self) -> Tensor:
        """Scores before softmax, (B, K)."""
        return self._given(self._logits, "logits")

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """Feature maps (B, C, H, W), stem first."""
        return self._given(self._stages, "stages")

    @property
    def preacts(self) -> tuple[Tensor, ...]:
        """Feature maps before their last activation, shapes as `stages`."""
        return self._given(self._preacts, "preacts")

    @property
    def embedding(self) -> Tensor:
        """Vectors that enter the classifier, (B, D)."""
        return self._given(self._embedding, "embedding")

    def apply(self, function: Callable[[Tensor], Tensor]) -> "ModelOutput":
        """Return the same answer with ``function`` applied to every tensor that was served."""

        def each(values: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
            return None if values is None else tuple(function(value) for value in values)

        return ModelOutput(
            logits=None if self._logits is None else function(self._logits),
            stages=each(self._stages),
            preacts=each(self._preacts),
            embedding=None if self._embedding is None else function(self._embedding),
            owner=self._owner,
        )

    def tensors(self) -> list[Tensor]:
        """Return every tensor that was served, in the order of `apply`."""
        found: list[Tensor] = []

        def take(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.apply(take)
        return found

    def only(self, needs: Needs) -> "ModelOutput":
        """Return the answer without what ``needs`` does not declare; logits stay."""
        return ModelOutput(
            logits=self._logits,
            stages=self._stages if needs.stages else None,
            preacts=self._preacts if needs.preacts else None,
            embedding=self._embedding if needs.embedding else None,
            owner=self._owner,
        )

    @staticmethod
    def interleave(outputs: "Sequence[ModelOutput]") -> "ModelOutput":
        """Join the answers to V views of the same N images into one of N * V rows, view fastest.

        Every output must serve the same parts; one output is returned as it is.
        """
        if len(outputs) == 1:
            return outputs[0]
        return ModelOutput._joined(outputs, lambda values: torch.stack(list(values), dim=1).flatten(0, 1))

    @staticmethod
    def concatenate(outputs: "Sequence[ModelOutput]") -> "ModelOutput":
        """Join the answers to the slices of one batch, in order; every output must serve the same parts."""
        return ModelOutput._joined(outputs, lambda values: torch.cat(list(values)))

    @staticmethod
    def _joined(outputs: "Sequence[ModelOutput]", join: Callable[[Sequence[Tensor]], Tensor]) -> "ModelOutput":
        def joined(tuples: Sequence[tuple[Tensor, ...] | None]) -> tuple[Tensor, ...] | None:
            served = [values for values in tuples if values is not None]
            return tuple(join(stage) for stage in zip(*served, strict=True)) if served else None

        embeddings = [output._embedding for output in outputs if output._embedding is not None]
        return ModelOutput(
            logits=join([output.logits for output in outputs]),
            stages=joined([output._stages for output in outputs]),
            preacts=joined([output._preacts for output in outputs]),
            embedding=join(embeddings) if embeddings else None,
            owner=outputs[0]._owner,
        )

    def _given(self, value: _ValueT | None, what: str) -> _ValueT:
        if value is None:
            raise PluginError(
                f"{what} of the {self._owner} were read but not served in this phase",
                hint=f"declare Needs({what}=True) (logits: run the {self._owner} in this phase)",
            )
        return value
