"""A finished student becomes a folder that anybody with timm can load, with a card that says how it was made."""

from compressor.publishing.facts import DataFacts, Publication, TeacherFacts
from compressor.publishing.folder import Check, Published, publish
from compressor.publishing.hub import push
from compressor.publishing.onnx import export_onnx

__all__ = [
    "Check",
    "DataFacts",
    "Publication",
    "Published",
    "TeacherFacts",
    "export_onnx",
    "publish",
    "push",
    "republish",
]
