"""Teachers: given, read from a file, timm's own, or out of the bank; scored before anybody learns from them."""

from pathlib import Path

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import DataSet
from compressor.engine.bank import read_record, supply
from compressor.engine.evaluate import Predictions, predict
from compressor.engine.inference import inference_form
from compressor.engine.layout import arrange
from compressor.engine.networks import normalisation_of
from compressor.engine.normalise import Normalisation
from compressor.engine.session import Session, Teacher
from compressor.errors import InputError
from compressor.models.create import BuiltModel
from compressor.models.folders import read_folder, read_weights_of
from compressor.storage import read_tensors
from compressor.weights import load_into, load_weights, state_sha256

SCORED_IMAGES = 256
_LEAST_OF_CHANCE = 1.5


def ready_teacher(config: RunConfig, built: BuiltModel, session: Session) -> Teacher:
    """Give a built teacher its weights, score it, and freeze it.

    Args:
        session: its ``teacher`` is not looked at.

    Raises:
        InputError: weights that do not fit or cannot be trusted, other classes than the data's, or an accuracy no
            better than 1.5 times chance. Stopped: while the bank trained it; the same command goes on.
    """
    data, name = session.data, built.name.display
    normalisation = normalisation_of(built.module, data)
    weights = config.teacher.weights
    if weights == "pretrained" or built.name.kind in ("remote", "run"):
        origin = "pretrained" if weights == "pretrained" else built.name.given
        check_classes(label_names(built.module), data, built.name.given)
    elif weights is not None:
        path = Path(weights.removeprefix("run:"))
        normalisation = _from_path(built.module, path, data) or normalisation
        origin = str(path)
    else:
        record = supply(config, session)
        load_into(built.module, read_tensors(record.folder / "model.safetensors"), str(record.folder))
        check_classes(record.class_names, data, str(record.folder))
        normalisation, origin = record.normalisation, str(record.folder)
    return freeze(built.module, name, normalisation, origin, session)


def freeze(net: nn.Module, name: str, normalisation: Normalisation, origin: str, session: Session) -> Teacher:
    """Score a network on held-out images and make it a teacher: eval mode, no gradient, never trained.

    Raises:
        InputError: other numbers of classes than the data's, or no better than 1.5 times chance.
    """
    net.to(session.runtime.device).eval().requires_grad_(False)
    if not session.runtime.plain:
        arrange(net)
    seen = score(net, name, normalisation, session.data)
    return Teacher(
        name=name,
        tapped=inference_form(net, normalisation, session.data.image_size, session.runtime, session.listener),
        normalisation=normalisation,
        sha256=state_sha256(net.state_dict()),
        top1=seen.top1,
        origin=origin,
    )


def score(net: nn.Module, name: str, normalisation: Normalisation, data: DataSet) -> Predictions:
    """Look at held-out (else training) images through a teacher before anybody learns from it; errors as `freeze`."""
    split = data.teacher_train if data.val is None else data.val
    seen = predict(net, split, normalisation, most=SCORED_IMAGES)
    if seen.logits.shape[1] != data.num_classes:
        raise InputError(
            f"teacher has {seen.logits.shape[1]} classes, data {data.name} has {data.num_classes}",
            hint="fine-tune the teacher first, or pass a checkpoint trained on this data: --teacher-weights PATH",
            code="teacher.classes",
        )
    chance = 100.0 / data.num_classes
    if not seen.top1 > _LEAST_OF_CHANCE * chance:
        raise InputError(
            f"teacher top-1 is {seen.top1:.1f} on {len(seen.labels)} images (chance {chance:.1f}): "
            "wrong weights or wrong preprocessing?",
            hint=f"compress teach --teacher {name} --data {data.name}, or --teacher-weights PATH",
            code="teacher.chance",
        )
    return seen


def check_classes(names: tuple[str, ...] | None, data: DataSet, owner: str) -> None:
    """Compare class names where the teacher has any.

    Raises:
        InputError: another number of classes, or another order, with the first difference.
    """
    if names is None:
        return
    if len(names) != data.num_classes:
        raise InputError(
            f"teacher has {len(names)} classes, data {data.name} has {data.num_classes}",
            hint="fine-tune the teacher first, or pass a checkpoint trained on this data: --teacher-weights PATH",
            code="teacher.classes",
        )
    for index, (theirs, ours) in enumerate(zip(names, data.class_names, strict=True)):
        if theirs != ours:
            raise InputError(
                f"class order differs: index {index} is {theirs!r} in the teacher, {ours!r} in {data.name}",
                hint=f"the teacher is {owner}; train one on this data: compress teach --data {data.name}",
                code="teacher.class_order",
            )


def _from_path(net: nn.Module, path: Path, data: DataSet) -> Normalisation | None:
    """Load weights from a file, a bank folder, a published folder or a run; return the normalisation if it is told."""
    if not path.is_dir():
        load_weights(net, path)
        return None
    if (path / "teacher.json").is_file():
        record = read_record(path)
        check_classes(record.class_names, data, str(path))
        load_into(net, read_tensors(path / "model.safetensors"), str(path))
        return record.normalisation
    saved = read_folder(path)
    check_classes(saved.label_names, data, str(path))
    load_into(net, read_weights_of(saved.folder), str(path))
    told = saved.mean is not None and saved.std is not None
    return Normalisation.told(saved.mean, saved.std, data.image_size[0]) if told else None


def label_names(net: nn.Module) -> tuple[str, ...] | None:
    """Return the class names that came with a network's weights, None where none did; InputError for what are none."""
    settings = getattr(net, "pretrained_cfg", None)
    names = settings.get("label_names") if isinstance(settings, dict) else None
    if not names:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"the weights come with label_names {str(names)!r:.60}, which are no list of names")
    return tuple(names)
