"""What is wrong with a dataset, before it costs a night: examine it, repair a copy, look quickly at the start."""

from deeplabv3p.data.doctor.diagnose import Diagnosis, diagnose
from deeplabv3p.data.doctor.findings import KINDS, Example, Finding, Kind, Severity
from deeplabv3p.data.doctor.precheck import precheck
from deeplabv3p.data.doctor.repair import Action, Repairs, repair

__all__ = [
    "KINDS",
    "Action",
    "Diagnosis",
    "Example",
    "Finding",
    "Kind",
    "Repairs",
    "Severity",
    "diagnose",
    "precheck",
    "repair",
]
