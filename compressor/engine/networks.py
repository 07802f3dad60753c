"""A run's networks: built for its data, looked at, and told apart from their normalisation."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from compressor.config.settings import StudentConfig, TeacherConfig
from compressor.data.types import DataSet
from compressor.distiller import NetworkSpec
from compressor.engine.lanes import OwnTeacher
from compressor.engine.normalise import Normalisation
from compressor.errors import InputError, UsageError
from compressor.models.catalogue import resolve_name
from compressor.models.create import BuiltModel, build
from compressor.models.specs import network_spec
from compressor.models.taps import TappedModel, Wanted
from compressor.streams import derive
from compressor.weights import load_weights


@dataclass(frozen=True)
class Student:
    """A student before training, and the normalisation it is trained with."""

    built: BuiltModel
    normalisation: Normalisation


def build_student(config: StudentConfig, data: DataSet, seed: int, given: nn.Module | None = None) -> Student:
    """Build a student for the data; random weights are drawn from the run's seed alone.

    Args:
        given: a network of the user's own, taken as it is.

    Raises:
        UsageError, InputError: the name or the first weights cannot be used, or its classes are not the data's.
    """
    if given is not None:
        name = resolve_name(f"python:{type(given).__name__}")
        built = BuiltModel(module=given, name=name)
        return Student(built, normalisation_of(given, data))
    pretrained = config.init == "pretrained"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "student"))
        built = build(
            resolve_name(config.name, role="student"),
            num_classes=data.num_classes,
            image_size=data.image_size[-1],
            pretrained=pretrained,
        )
    if pretrained:
        return Student(built, normalisation_of(built.module, data))
    if config.init != "scratch":
        load_weights(built.module, Path(config.init))
    return Student(built, data_normalisation(data))


def build_own_teacher(config: TeacherConfig, data: DataSet, seed: int) -> OwnTeacher:
    """Build a network of the teacher's architecture for a method that trains it itself; weights are never loaded.

    Raises:
        UsageError: the name stands for weights, not for an architecture. InputError: as `build`.
    """
    name = resolve_name(config.name, role="teacher")
    if name.kind not in ("timm", "plugin", "factory"):
        raise UsageError(
            f"the method trains the network in the teacher's place itself, and {config.name} is a trained one",
            hint="name its architecture with --teacher",
        )

    def fresh(own_seed: int) -> OwnTeacher:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(own_seed, "own teacher"))
            built = build(name, num_classes=data.num_classes, image_size=data.image_size[-1], pretrained=False)
        tapped = TappedModel(built.module, owner="teacher")
        return OwnTeacher(built=built, tapped=tapped, normalisation=data_normalisation(data), fresh=fresh)

    return fresh(seed)


def normalisation_of(net: nn.Module, data: DataSet) -> Normalisation:
    """Return what a network's own settings say of its images, else the data's; InputError as `Normalisation.told`."""
    return Normalisation.of_network(net, data.image_size[0]) or data_normalisation(data)


def data_normalisation(data: DataSet) -> Normalisation:
    """Return the training images' own mean and deviation, for networks that start from random weights."""
    return Normalisation(data.mean, data.std, identity=data.train.normalised)


def spec_of(tapped: TappedModel, name: str, data: DataSet, wanted: Wanted) -> NetworkSpec:
    """Return what a method may know of a network.

    Raises:
        InputError: it cannot take the data's images, or has other classes. UnsupportedPair: it lacks what is wanted.
    """
    spec = network_spec(tapped, name, data.image_size, wanted=wanted)
    if spec.num_classes != data.num_classes:
        raise InputError(
            f"{tapped.owner} {name} has {spec.num_classes} classes, data {data.name} has {data.num_classes}",
            hint="a factory gets num_classes= when it takes one",
            code=f"{tapped.owner}.classes",
        )
    return spec


def class_counts(labels: torch.Tensor, num_classes: int) -> tuple[int, ...]:
    """Count the images of each class."""
    return tuple(int(count) for count in torch.bincount(labels.cpu(), minlength=num_classes))
