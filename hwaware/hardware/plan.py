"""``placement.yaml``: the hardware of each layer, written by ``hwaware plan`` and read by recipes.

::

    network: tf_mobilenetv3_small_100        # the network that it was planned for
    device: {name: reram_cmo, …}             # all constants
    encoding: {mapping: differential, …}     # encoding of all other layers
    layers:                                  # as in a recipe's model.hardware.layers
    - {match: [conv_stem], encoding: {parallel: 16}}
    - {match: [blocks.0.0.conv_dw], digital: true}
    plan: {…}                                # the goal of the plan, its predictions and measurements

You can edit it by hand; its ``plan`` is then no longer valid.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hwaware.errors import UserError, nearest, nearest_path
from hwaware.hardware.hardware import Hardware
from hwaware.system.reading import read_yaml

_KEYS = ("network", "device", "encoding", "layers", "plan")


@dataclass(frozen=True)
class PlanFile:
    """The contents of a plan file.

    Attributes:
        path: path of the file.
        network: name of the network that it was planned for.
        device, encoding: hardware of the layers that are not named, as plain types.
        layers: settings of the other layers, each in the form of a recipe's ``layers``.
        plan: the goal of the plan, its predictions and measurements.
    """

    path: str
    network: str
    device: Mapping[str, Any]
    encoding: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]
    plan: Mapping[str, Any]

    @property
    def heading(self) -> str:
        """The file, for messages."""
        return f"hardware.plan '{self.path}' (planned for {self.network})"

    def check(self, default: Hardware) -> None:
        """Raises UserError if a recipe's encoding differs from the plan's; warns if the device differs."""
        given = _plain(default)
        for key, value in self.encoding.items():
            if given["encoding"].get(key) != value:
                raise UserError(
                    f"{self.heading}: it was planned with encoding.{key} {value}, but the recipe has "
                    f"{given['encoding'].get(key)}: give the same, or plan again."
                )
        if given["device"] != self.device:
            both = {*given["device"], *self.device}
            differing = sorted(key for key in both if given["device"].get(key) != self.device.get(key))
            warnings.warn(
                f"{self.heading}: it was planned for another device (differing: {', '.join(differing)}), so its "
                "predictions do not hold here.",
                stacklevel=2,
            )


def read_plan(path: str) -> PlanFile:
    """Reads a file written by :func:`plan_text`.

    Raises:
        UserError: there is no such file, or it has another form.
    """
    if not Path(path).is_file():
        raise UserError(f"hardware.plan: there is no file '{path}'. {nearest_path(path)}".rstrip())
    found = read_yaml(path, "hardware.plan")
    if not isinstance(found, dict) or not set(_KEYS) <= set(found):
        lacking = [key for key in _KEYS if not isinstance(found, dict) or key not in found]
        raise UserError(f"hardware.plan '{path}' has no '{lacking[0]}': hwaware plan writes such files.")
    for key in found:
        if key not in _KEYS:
            raise UserError(f"hardware.plan '{path}' has no '{key}'. {nearest(key, _KEYS)}")
    wrong = [key for key in ("device", "encoding", "plan") if not isinstance(found[key], dict)]
    if wrong or not isinstance(found["layers"], list) or not all(isinstance(one, dict) for one in found["layers"]):
        raise UserError(
            f"hardware.plan '{path}': {(wrong or ['layers'])[0]} does not have the form that hwaware plan writes."
        )
    for number, words in enumerate(found["layers"], start=1):
        _check_layers(words, f"hardware.plan '{path}', layers, entry {number}")
    return PlanFile(str(path), *(found[key] for key in _KEYS))


def _check_layers(words: Mapping[str, Any], where: str) -> None:
    """Raises UserError if an entry of ``layers`` has another form."""
    match = words.get("match")
    if not isinstance(match, list) or not match or not all(isinstance(name, str) for name in match):
        raise UserError(f"{where}: match={match!r} must be a list of layer names.")
    for part in ("device", "encoding", "crossbar"):
        if not isinstance(words.get(part, {}), dict):
            raise UserError(f"{where}: {part}={words[part]!r} is not a table of keys and values.")
    if not isinstance(words.get("digital", False), bool):
        raise UserError(f"{where}: digital={words['digital']!r} must be true or false.")


def plan_text(network: str, default: Hardware, layers: Mapping[str, Hardware | None], plan: Mapping[str, Any]) -> str:
    """The text of a plan file.

    Args:
        network: name of the network.
        default: hardware of the layers that are not named.
        layers: the hardware of each layer; None keeps it digital.
        plan: the goal of the plan, its predictions and measurements, as plain types.
    """
    usual = _plain(default)
    groups: dict[str, dict[str, Any]] = {}
    for name, hardware in layers.items():
        if hardware != default:
            words = {"digital": True} if hardware is None else _differing(_plain(hardware), usual)
            groups.setdefault(repr(words), {"match": [], **words})["match"].append(name)
    content = {
        "network": network,
        "device": usual["device"],
        "encoding": usual["encoding"],
        "layers": list(groups.values()),
        "plan": dict(plan),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _plain(hardware: Hardware) -> dict[str, Any]:
    """Hardware as plain types without tuples, for YAML."""
    return json.loads(json.dumps(hardware.plain()))


def _differing(own: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the usual hardware, in the form of a recipe; all if the device differs."""
    found = {}
    for part in ("device", "encoding", "crossbar"):
        changed = {key: value for key, value in own[part].items() if value != usual[part].get(key)}
        if changed:
            found[part] = own[part] if part == "device" and own[part]["name"] != usual[part]["name"] else changed
    return found
