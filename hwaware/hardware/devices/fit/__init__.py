"""Own measurements: from repeated conductance readings to a device file."""

from hwaware.hardware.devices.fit.estimate import Estimate, Fit, fit_device
from hwaware.hardware.devices.fit.readings import Readings, read_measurements

__all__ = ["Estimate", "Fit", "Readings", "fit_device", "read_measurements"]
