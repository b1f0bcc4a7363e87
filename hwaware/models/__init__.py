"""Networks: any timm classifier by name, and those that timm lacks (importing this package registers them)."""

from hwaware.models import cifar_resnet as _cifar_resnet  # noqa: F401  registers resnet{20,32,56}_cifar
from hwaware.models.build import build_model

__all__ = ["build_model"]
