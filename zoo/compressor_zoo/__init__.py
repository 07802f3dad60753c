"""The networks of the CIFAR distillation literature, known to timm once this package is imported.

    import compressor_zoo
    import timm

    student = timm.create_model("cifar_resnet8x4", num_classes=10)

Needs torch and timm, nothing else; a folder published with one of these networks loads through
``timm.create_model("local-dir:PATH", pretrained=True)`` after the import.
"""

from compressor_zoo.architectures import (
    mobilenetv2,
    resnet,
    resnet50,
    reused_classifier,  # noqa: F401  # makes timm know it; it is no network to choose, so it is not listed below
    shufflenetv1,
    shufflenetv2,
    vgg,
    wide_resnet,
)

# Every name starts with `cifar_`, which no name of timm does, so none of timm's networks is ever hidden.
ARCHITECTURES: tuple[str, ...] = tuple(
    name
    for family in (resnet, wide_resnet, vgg, resnet50, mobilenetv2, shufflenetv1, shufflenetv2)
    for name in family.default_cfgs
)

__all__ = ["ARCHITECTURES"]
