"""What lies in a model's file, and what is wrong with it."""

from .contents import Contents, Tensor, read_contents
from .doctor import Diagnosis, diagnose
from .finding import Finding
from .inventory import ClassRow, TensorRow, class_rows, tensor_rows

__all__ = [
    "ClassRow",
    "Contents",
    "Diagnosis",
    "Finding",
    "Tensor",
    "TensorRow",
    "class_rows",
    "diagnose",
    "read_contents",
    "tensor_rows",
]
