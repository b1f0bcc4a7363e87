"""``placement.yaml``: which layer gets which cells, as ``hwaware plan`` writes it and recipes take it.

::

    network: tf_mobilenetv3_small_100        # that it was planned for
    device: {name: reram_cmo, …}             # all constants
    encoding: {mapping: differential, …}     # of layers that are not named
    layers:                                  # as a recipe's model.hardware.layers
    - {match: [conv_stem], encoding: {parallel: 16}}
    - {match: [blocks.0.0.conv_dw], digital: true}
    plan: {…}                                # what it was planned for, what was predicted and measured

It can be edited by hand, and then its ``plan`` no longer holds.
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
    """What a file says.

    Attributes:
        path: of the file.
        network: name of the network that it was planned for.
        device, encoding: what layers that are not named stand on, as plain types.
        layers: what differs for others, each as the words of a recipe's ``layers``.
        plan: what it was planned for, predicted and measured.
    """

    path: str
    network: str
    device: Mapping[str, Any]
    encoding: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]
    plan: Mapping[str, Any]

    @property
    def heading(self) -> str:
        """The file in messages."""
        return f"hardware.plan '{self.path}' (planned for {self.network})"

    def check(self, default: Hardware) -> None:
        """Raises UserError where a recipe's encoding is another than was planned with; warns of another device."""
        given = _plain(default)
        for key, value in self.encoding.items():
            if given["encoding"].get(key) != value:
                raise UserError(
                    f"{self.heading}: it was planned with encoding.{key} {value}, and the recipe has "
                    f"{given['encoding'].get(key)}: give the same, or plan again."
                )
        if given["device"] != self.device:
            both = {*given["device"], *self.device}
            differing = sorted(key for key in both if given["device"].get(key) != self.device.get(key))
            warnings.warn(
                f"{self.heading}: it was planned for another device (differing: {', '.join(differing)}), so that what "
                "it predicts does not hold here.",
                stacklevel=2,
            )


def read_plan(path: str) -> PlanFile:
    """Reads what :func:`plan_text` gave.

    Raises:
        UserError: there is no such file, or it is of another form.
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
        raise UserError(f"hardware.plan '{path}': {(wrong or ['layers'])[0]} is not of the form that hwaware plan has.")
    for number, words in enumerate(found["layers"], start=1):
        _check_layers(words, f"hardware.plan '{path}', layers, entry {number}")
    return PlanFile(str(path), *(found[key] for key in _KEYS))


def _check_layers(words: Mapping[str, Any], where: str) -> None:
    """Raises UserError where what is said of some layers is of another form."""
    match = words.get("match")
    if not isinstance(match, list) or not match or not all(isinstance(name, str) for name in match):
        raise UserError(f"{where}: match={match!r} must be a list of layers' names.")
    for part in ("device", "encoding", "crossbar"):
        if not isinstance(words.get(part, {}), dict):
            raise UserError(f"{where}: {part}={words[part]!r} is no table of words and values.")
    if not isinstance(words.get("digital", False), bool):
        raise UserError(f"{where}: digital={words['digital']!r} must be true or false.")


def plan_text(network: str, default: Hardware, layers: Mapping[str, Hardware | None], plan: Mapping[str, Any]) -> str:
    """The text of such a file.

    Args:
        network: its name.
        default: what layers that are not named stand on.
        layers: the hardware of each layer; None keeps it digital.
        plan: what it was planned for, predicted and measured, as plain types.
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
    """As YAML has it, which knows no tuples."""
    return json.loads(json.dumps(hardware.plain()))


def _differing(own: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """What of a hardware is not as usual, in a recipe's words; all of another device."""
    found = {}
    for part in ("device", "encoding", "crossbar"):
        changed = {key: value for key, value in own[part].items() if value != usual[part].get(key)}
        if changed:
            found[part] = own[part] if part == "device" and own[part]["name"] != usual[part]["name"] else changed
    return found
