"""Networks: any timm classifier by name, and those that timm lacks (importing this package registers them)."""

# They register resnet{20,32,56}_cifar, vgg16_cifar and vgg16_cifar_narrow, lenet5.
from hwaware.models import cifar_resnet as _cifar_resnet  # noqa: F401
from hwaware.models import cifar_vgg as _cifar_vgg  # noqa: F401
from hwaware.models import lenet as _lenet  # noqa: F401
from hwaware.models.build import build_model, load_weights

__all__ = ["build_model", "load_weights"]
