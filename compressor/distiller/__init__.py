"""The contract of a method: what it declares, what it is given, what it returns.

A method is a settings class and what it says about a batch that both networks have seen::

    class KD(Distiller[KDConfig]):
        name = "kd"
        Config = KDConfig

        def terms(self, batch, student, teacher):
            return {"kd": soft_target_kl(student.logits, teacher.logits, self.config.kd_temperature)}

Everything else is optional: what it needs (`Needs`), modules of its own (made in ``__init__``), phases before the
student's (`Phase`), and what it does after a step. The core serves what is declared and knows no method by name.
"""

from compressor.distiller.base import CONTRACT_VERSION, Distiller
from compressor.distiller.batch import Batch
from compressor.distiller.exports import ExtendedStudent, shared_copy
from compressor.distiller.links import Link
from compressor.distiller.needs import Needs, Negatives, Owner, Rotations, Views, Whose
from compressor.distiller.outputs import ModelOutput
from compressor.distiller.phases import Phase, Schedule, Terms, TermsFunction
from compressor.distiller.specs import NetworkSpec, Pair, StageSpec

__all__ = [
    "CONTRACT_VERSION",
    "Batch",
    "Distiller",
    "ExtendedStudent",
    "Link",
    "ModelOutput",
    "Needs",
    "Negatives",
    "NetworkSpec",
    "Owner",
    "Pair",
    "Phase",
    "Rotations",
    "Schedule",
    "StageSpec",
    "Terms",
    "TermsFunction",
    "Views",
    "Whose",
    "shared_copy",
]
