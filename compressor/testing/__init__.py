"""The contract kit: holds a method, or a network, to what the core relies on, without training anything.

For strangers' tests as for ours::

    def test_my_method_keeps_the_contract() -> None:
        assert check_distiller(MyMethod) == []

Every fault is listed, each with what to do about it. It needs nothing that the toolkit itself does not need.
"""

from compressor.testing.architectures import check_architecture
from compressor.testing.faults import Fault
from compressor.testing.methods import check_distiller

__all__ = ["Fault", "check_architecture", "check_distiller"]
