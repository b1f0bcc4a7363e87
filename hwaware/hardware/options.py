"""Hardware options of recipes: settings that differ from a device file, for all layers or for some."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from hwaware.errors import UserError, nearest_path
from hwaware.hardware.crossbar import Converters, Crossbar, Wires
from hwaware.hardware.devices import read_device_file
from hwaware.hardware.encoding import Encoding
from hwaware.hardware.hardware import Hardware
from hwaware.hardware.load import build_encoding, build_hardware
from hwaware.hardware.placement import Placement, Rule
from hwaware.hardware.plan import PlanFile, read_plan


@dataclass(frozen=True)
class EncodingOptions:
    """Settings of the encoding that differ from the device file; None: as in the file.

    Attributes:
        mapping: ``offset``, ``offset_reference``, ``differential``, ``differential_symmetric`` or ``bit_sliced``; or
            the ``module.NAME`` of a custom mapping.
        scale: one weight scale per ``tensor`` or per output ``channel``; ``fixed`` only with ``bit_sliced``.
        kappa: non-linearity κ of the cell's I-V curve; ``linear`` for none.
        range_fraction: fraction r of the conductance window that weights use.
        format: ``{levels: 15}`` (an odd number of values of a weight), ``{cell_levels: 8}`` (of a cell: 15 of a weight
            in ``differential``), ``{bits: 8, slice_bits: 2}`` for ``bit_sliced``
            (with ``fraction_bits`` where the scale is ``fixed``), or ``continuous``.
        headroom_us: margins (µS) at the lower and upper end of the window that are left free for drift: ``[5, 2.5]``.
        parallel: number of parallel cells for each cell of a weight.
        combine: how parallel cells are read: as their ``mean`` or ``median``.
        mean_target_ages_s: ages (s) over which the expected weight equals the wanted one on average.
    """

    mapping: str | None = None
    scale: str | None = None
    kappa: float | Literal["linear"] | None = None
    range_fraction: float | None = None
    format: dict[str, int] | Literal["continuous"] | None = None
    headroom_us: list[float] | None = None
    parallel: int | None = None
    combine: Literal["mean", "median"] | None = None
    mean_target_ages_s: list[float] | None = None

    def words(self) -> dict[str, Any]:
        """The settings that are given."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}

    def over(self, encoding: Encoding) -> Encoding:
        """A copy of an encoding with the given settings."""
        return build_encoding(encoding.plain() | self.words())


@dataclass(frozen=True)
class CrossbarOptions:
    """Settings of the crossbar that differ from the default, or from that of other layers; None: no difference.

    Attributes:
        rows, columns: size of an array, in cells.
        converters: DACs and ADCs, whose ranges are measured before training; ``exact`` for none.
        wires: wire resistance of the arrays; ``ideal`` for none.
        read_noise: when read noise is drawn: once for each ``reading`` of a chip, or for each ``product``.
    """

    rows: int | None = None
    columns: int | None = None
    converters: Converters | Literal["exact"] | None = None
    wires: Wires | Literal["ideal"] | None = None
    read_noise: Literal["reading", "product"] | None = None

    def over(self, crossbar: Crossbar) -> Crossbar:
        """A copy of a crossbar with the given settings."""
        given = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        if self.converters == "exact":
            given["converters"] = None
        if self.wires == "ideal":
            given["wires"] = None
        return replace(crossbar, **given)


@dataclass(frozen=True)
class LayerOptions:
    """Hardware settings of some layers.

    Attributes:
        match: one or several shell patterns on module names (``blocks.*.attn.*``); a pattern that matches a module
            covers everything inside it.
        digital: keep these layers digital.
        device: constants that differ; with a ``name``, another device.
        encoding, crossbar: settings that differ.
    """

    match: str | list[str]
    digital: bool = False
    device: dict[str, Any] | None = None
    encoding: EncodingOptions | None = None
    crossbar: CrossbarOptions | None = None

    def __post_init__(self) -> None:
        others = [one for one in ("device", "encoding", "crossbar") if getattr(self, one) is not None]
        if self.digital and others:
            raise UserError(f"hardware.layers: {self.match} is digital, so it has no {others[0]}: leave one out.")
        if not self.patterns or not all(self.patterns):
            raise UserError("hardware.layers: match is empty; give a pattern on layer names, such as 'blocks.*'.")

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.match,) if isinstance(self.match, str) else tuple(self.match)


@dataclass(frozen=True)
class KeepDigital:
    """The most sensitive layers, which stay digital.

    Attributes:
        ranking: path of ``sensitivity.csv`` from ``hwaware sensitivity``.
        layers: how many layers stay digital.
    """

    ranking: str
    layers: int

    def names(self) -> tuple[str, ...]:
        """Names of these layers.

        Raises:
            UserError: there is no such file, it is not a ranking, or it has fewer layers.
        """
        if not Path(self.ranking).is_file():
            hint = nearest_path(self.ranking) or "hwaware sensitivity writes it."
            raise UserError(f"keep_digital.ranking: there is no file '{self.ranking}'. {hint}")
        data = Path(self.ranking).read_bytes()
        try:
            reader = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""))
        except UnicodeDecodeError as error:
            *above, before = data[: error.start].decode("utf-8").split("\n")
            raise UserError(
                f"keep_digital.ranking: '{self.ranking}' line {len(above) + 1}, column {len(before) + 1}: "
                f"byte {data[error.start]:#x} is not UTF-8."
            ) from None
        numbered = [(reader.line_num, line) for line in reader]
        lines = [line for _, line in numbered]
        if not lines or not {"rank", "layer"} <= lines[0].keys():
            raise UserError(f"keep_digital.ranking: '{self.ranking}' has no columns 'rank' and 'layer'.")
        for number, line in numbered:
            if not (line["rank"] or "").strip().isdecimal():
                raise UserError(
                    f"keep_digital.ranking: '{self.ranking}' line {number}: rank '{line['rank'] or ''}' is not a whole "
                    "number."
                )
            if not line["layer"]:
                raise UserError(f"keep_digital.ranking: '{self.ranking}' line {number}: the layer is empty.")
        if not 1 <= self.layers < len(lines):
            raise UserError(
                f"keep_digital.layers={self.layers} must lie in [1, {len(lines) - 1}] for {len(lines)} layers."
            )
        ranked = sorted(lines, key=lambda line: int(line["rank"]))
        return tuple(line["layer"] for line in ranked[: self.layers])


#: Options that set the hardware of single layers.
_OF_LAYERS = ("layers", "others_digital", "keep_digital", "plan")


@dataclass(frozen=True)
class HardwareOptions:
    """Hardware of a network's layers: a device by name, with the settings that differ from its file.

    The hardware is built once, when the recipe is read. Later changes of a device file have no effect.

    Attributes:
        device: the ``name`` (a preset such as ``reram_cmo``, the path of a device's YAML file, or the ``module.Class``
            of a custom device), and any constants that differ (``temperature_c: 85``).
        encoding: how cells hold weights.
        crossbar: how cells are arranged and read.
        layers: settings of some layers; None: none, or in ``evaluation.hardware`` those of the task.
        others_digital: keep all layers digital that ``layers`` does not name.
        keep_digital: keep the most sensitive layers digital.
        plan: path of ``placement.yaml`` from ``hwaware plan``, which sets the hardware of each layer instead of
            ``layers``, ``others_digital`` and ``keep_digital``.
    """

    device: dict[str, Any]
    encoding: EncodingOptions = field(default_factory=EncodingOptions)
    crossbar: CrossbarOptions = field(default_factory=CrossbarOptions)
    layers: list[LayerOptions] | None = None
    others_digital: bool = False
    keep_digital: KeepDigital | None = None
    plan: str | None = None

    _files: ClassVar[dict[str, Any]]  #: by name; each object has its own

    def __post_init__(self) -> None:
        object.__setattr__(self, "_files", {})
        object.__setattr__(self, "_placement", self._build())  # so that mistakes are reported before anything runs

    @property
    def placement(self) -> Placement:
        """The hardware of each layer."""
        return self._placement  # type: ignore[attr-defined]

    def beside(self, task: HardwareOptions | None) -> Placement:
        """The placement for evaluating a task's network; settings of layers and the crossbar default to the task's."""
        if task is None:
            return self.placement
        crossbar = {one.name: getattr(self.crossbar, one.name) for one in fields(self.crossbar)}
        crossbar = {key: getattr(task.crossbar, key) if value is None else value for key, value in crossbar.items()}
        of_task = {key: getattr(task, key) for key in _OF_LAYERS}
        named = any(getattr(self, key) not in (None, False) for key in _OF_LAYERS)
        beside = copy.copy(self)  # keeps the files as they were read
        object.__setattr__(beside, "_files", {**task._files, **self._files})
        for key, value in {"crossbar": CrossbarOptions(**crossbar), **({} if named else of_task)}.items():
            object.__setattr__(beside, key, value)
        return beside._build()

    def _build(self) -> Placement:
        if not isinstance(self.device.get("name"), str):
            raise UserError("hardware.device has no name: give one, such as device.name reram_cmo.")
        default = self._hardware(LayerOptions(match="*"))
        rules = self._planned(default) if self.plan is not None else self._rules(self.layers or ())
        kept = self.keep_digital.names() if self.keep_digital is not None else ()
        return Placement(None if self.others_digital else default, tuple(rules), kept)

    def _planned(self, default: Hardware) -> list[Rule]:
        for key in _OF_LAYERS[:-1]:
            if getattr(self, key) not in (None, False):
                raise UserError(f"hardware.plan and hardware.{key} both set the hardware of layers: drop one.")
        assert self.plan is not None  # for the type checker
        plan = self._once(read_plan, self.plan)
        plan.check(default)
        return self._rules([_layer_options(words, plan) for words in plan.layers], plan.heading)

    def _rules(self, layers: Sequence[LayerOptions], given: str = "hardware.layers") -> list[Rule]:
        return [Rule(one.patterns, self._of(one), given) for one in layers]

    def _of(self, layer: LayerOptions) -> Hardware | None:
        try:
            return None if layer.digital else self._hardware(layer)
        except UserError as error:
            raise UserError(f"hardware.layers, match {', '.join(layer.patterns)}: {error}") from None

    def _hardware(self, layer: LayerOptions) -> Hardware:
        constants = layer.device or {}
        device = constants if "name" in constants else self.device | constants
        words = self.encoding.words() | (layer.encoding.words() if layer.encoding is not None else {})
        crossbar = self.crossbar.over(Crossbar())
        crossbar = crossbar if layer.crossbar is None else layer.crossbar.over(crossbar)
        return build_hardware(device, words, crossbar, partial(self._once, read_device_file))

    def _once(self, read: Callable[[str], Any], name: str) -> Any:
        """Contents of a device file or plan, as they were when first read for this hardware."""
        if name not in self._files:
            self._files[name] = read(name)
        return self._files[name]


def _layer_options(words: Mapping[str, Any], plan: PlanFile) -> LayerOptions:
    """Options of some layers from a plan file."""
    parts: dict[str, Any] = {"encoding": EncodingOptions, "crossbar": _crossbar_options}
    try:
        return LayerOptions(**{key: parts[key](**value) if key in parts else value for key, value in words.items()})
    except TypeError as error:
        reason = str(error).removeprefix("LayerOptions.").removeprefix("__init__() ")
        raise UserError(f"{plan.heading}: in layers, {reason}.") from None


def _crossbar_options(**words: Any) -> CrossbarOptions:
    if "converters" in words:
        words["converters"] = Converters(**words["converters"]) if words["converters"] else "exact"
    if "wires" in words:
        words["wires"] = Wires(**words["wires"]) if words["wires"] else "ideal"
    return CrossbarOptions(**words)
