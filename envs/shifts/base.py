"""The shift: a trace turned into another trace, seeded and composable, the original untouched."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...data.trace import Trace
from .parameters import Parameter, ShiftError, parameter
from .text import NONE, write_call

if TYPE_CHECKING:
    from .adversarial import Opponent

Values = NDArray[np.float64]


class Shift(ABC):
    """What every shift can do; :class:`SingleShift` and :class:`Compose` are the two kinds.

    ``str(shift)`` is the text form: the parameters that say how strong the shift is, and those that
    differ from their default. :func:`~shiftgym.envs.shifts.parse_shift` reads it back.
    """

    @abstractmethod
    def apply(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the shifted trace; the same generator state gives the same result.

        Parameters
        ----------
        trace : Trace
            Left as it is.
        rng : numpy.random.Generator
            Source of all randomness.

        Returns
        -------
        Trace
            With ``shifted`` set where the shift is active, outcomes clipped to ``outcome_low`` and the text
            of the shift in its history. The identity returns ``trace`` itself.

        Raises
        ------
        ShiftError, TraceError
            If the shift does not fit the trace.
        """

    @abstractmethod
    def at_severity(self, severity: float) -> Shift:
        """Return the same shift with every severity multiplied by ``severity``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:
        """JSON form: name and all parameters, or a list of these for a composition."""

    @property
    @abstractmethod
    def is_identity(self) -> bool:
        """Whether the shift leaves every trace as it is."""

    def against(self, opponent: Opponent) -> Shift:
        """Return the shift as it is made against an opponent; one that is not adversarial stays what it is."""
        return self

    def __or__(self, other: Shift) -> Shift:
        return compose((self, other))


@dataclass(frozen=True)
class Compose(Shift):
    """Shifts applied one after the other; without any, the identity.

    Each member draws from a generator of its own, so that the draws of one do not depend on the others.
    """

    shifts: tuple[Shift, ...] = ()

    def apply(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        for shift, stream in zip(self.shifts, rng.spawn(len(self.shifts)), strict=True):
            trace = shift.apply(trace, stream)
        return trace

    def at_severity(self, severity: float) -> Shift:  # noqa: D102
        return Compose(tuple(shift.at_severity(severity) for shift in self.shifts))

    def against(self, opponent: Opponent) -> Shift:  # noqa: D102
        return Compose(tuple(shift.against(opponent) for shift in self.shifts))

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: D102
        forms: list[dict[str, Any]] = []
        for shift in self.shifts:
            form = shift.to_dict()
            forms += [form] if isinstance(form, dict) else form
        return forms

    @property
    def is_identity(self) -> bool:  # noqa: D102
        return all(shift.is_identity for shift in self.shifts)

    def __str__(self) -> str:
        return " | ".join(map(str, self.shifts)) or NONE


def compose(shifts: Iterable[Shift]) -> Shift:
    """Return one shift that applies all of ``shifts`` in order; nested compositions are laid flat."""
    flat: list[Shift] = []
    for shift in shifts:
        flat += shift.shifts if isinstance(shift, Compose) else (shift,)
    return flat[0] if len(flat) == 1 else Compose(tuple(flat))


@dataclass(frozen=True)
class Scene:
    """What a shift may look at besides the values that it distorts.

    Attributes
    ----------
    trace : Trace
        The trace before the shift, with all its columns.
    reference : array, shape (T, D)
        The values, in the chosen columns, that maxima, means and quantiles are taken of: the outcome, unless the
        shift works on another channel. Where a reading differs from its outcome, both are thus distorted alike.
    rng : numpy.random.Generator
        Source of randomness, in the same state for outcome and reading.
    first : int
        First active slot; what a shift returns for earlier ones is discarded.
    """

    trace: Trace
    reference: Values
    rng: np.random.Generator
    first: int

    @property
    def maximum(self) -> Values:
        """Largest magnitude of each column, shape (D,)."""
        return np.asarray(np.abs(self.reference).max(axis=0))


@dataclass(frozen=True, kw_only=True)
class SingleShift(Shift):
    """Base of the named shifts: parameters, severity, onset, mask and history; ``transform`` is theirs.

    Subclasses are frozen dataclasses whose fields are declared with
    :func:`~shiftgym.envs.shifts.parameter` and that are registered with
    :func:`~shiftgym.envs.shifts.register`. Where ``transform`` reads parameters, severity has scaled them.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    source: ClassVar[str] = ""
    place: ClassVar[str | None] = "onset"
    """Parameter that says where the shift begins; None if it can only hold for the whole trace."""

    onset: float | int | str | None = parameter(
        None,
        kind="place",
        doc="first active slot: index, fraction of the trace or ISO time; all of it by default",
    )
    severity: float = parameter(
        1.0, low=0.0, doc="0 is the identity, 1 the parameters as given, linear between and beyond"
    )
    channel: str = parameter(
        "outcome",
        kind="choice",
        choices=("outcome", "observed", "context"),
        doc="'outcome' (and its reading alike), 'observed' (the reading only) or 'context'",
    )

    def __post_init__(self) -> None:
        for field, spec in self.parameters().items():
            object.__setattr__(self, field, spec.check(f"{field} of shift {self.name!r}", getattr(self, field)))
        if self.onset is not None and self.place != "onset":
            fix = f"it begins at its own {self.place!r}" if self.place else "use 'splice', which begins at a date"
            raise ShiftError(f"onset of shift {self.name!r} is {self.onset!r}: give none, {fix}")
        self.validate()
        if self.severity > 0:
            self.effective()

    def validate(self) -> None:
        """Check parameters against each other; raise ShiftError."""

    @classmethod
    @functools.cache
    def parameters(cls) -> dict[str, Parameter]:
        """Parameters by name, the shift's own ones first."""
        found = {field.name: field.metadata["parameter"] for field in dataclasses.fields(cls)}
        common = [field.name for field in dataclasses.fields(ArrayShift)]
        return {name: found[name] for name in sorted(found, key=lambda name: name in common)}

    def effective(self) -> SingleShift:
        """Return the shift with its severity worked into its parameters.

        Raises
        ------
        ShiftError
            If the severity drives a parameter out of its range, or there is nothing that it could scale.
        """
        if self.severity == 1:
            return self
        scaled: dict[str, Any] = {
            field: spec.scaled(getattr(self, field), self.severity)
            for field, spec in self.parameters().items()
            if spec.identity is not None and getattr(self, field) is not None
        }
        if not scaled:
            raise ShiftError(f"severity of shift {self.name!r} is {self.severity!r}: give 0 or 1, it is all or nothing")
        try:
            return dataclasses.replace(self, severity=1.0, **scaled)
        except ShiftError as error:
            raise ShiftError(f"{error} (after scaling by severity {self.severity:g})") from None

    @property
    def is_identity(self) -> bool:  # noqa: D102
        if self.severity == 0:
            return True
        shift = self.effective()
        scaled = [
            getattr(shift, field) == spec.identity
            for field, spec in self.parameters().items()
            if spec.identity is not None and getattr(shift, field) is not None
        ]
        return bool(scaled) and all(scaled)

    def first(self, trace: Trace) -> int:
        """Index of the first active slot."""
        place = getattr(self, self.place) if self.place else None
        return 0 if place is None else trace.index(place)

    @abstractmethod
    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:
        """Return the trace shifted throughout, or shortened; the base restores what lies before the onset."""

    def apply(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        if self.is_identity:
            return trace
        changed = self.effective().transform(trace, rng)
        past = slice(0, self.first(trace))
        active = np.ones(len(changed), bool)
        active[past] = trace.shifted[past][: len(changed)]
        arrays: dict[str, Any] = {}
        if past.stop > 0:
            for channel in ("outcome", "observed", "context"):
                arrays[channel] = getattr(changed, channel).copy()
                arrays[channel][past] = getattr(trace, channel)[past][: len(changed)]
            arrays["requests"] = changed.requests if self.channel == "context" else None
        return changed.replace(str(self), name=f"{trace.name} | {self}", shifted=active, **arrays)

    def at_severity(self, severity: float) -> Shift:  # noqa: D102
        return dataclasses.replace(self, severity=self.severity * severity)

    def to_dict(self) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: D102
        values = {field: getattr(self, field) for field in self.parameters()}
        plain = {field: value.name if isinstance(value, Trace) else value for field, value in values.items()}
        return {"kind": self.name, **plain}

    def __str__(self) -> str:
        form = self.to_dict()
        assert isinstance(form, dict)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        written = {
            name: form[name]
            for name, spec in self.parameters().items()
            if form[name] != defaults[name] or (spec.identity is not None and form[name] is not None)
        }
        return write_call(self.name, written)


@dataclass(frozen=True, kw_only=True)
class ArrayShift(SingleShift):
    """Base of the shifts that distort the values of one channel, column by column."""

    columns: str | None = parameter(
        None,
        kind="text",
        doc="names of the columns that are shifted, separated by blanks, * for any text; all of them by default",
    )

    @abstractmethod
    def distort(self, values: Values, scene: Scene) -> Values:
        """Return distorted values of the same shape.

        Parameters
        ----------
        values : array, shape (T, D)
            Read-only; the chosen columns.
        scene : Scene
            Trace, reference values, generator and first active slot.
        """

    def transform(self, trace: Trace, rng: np.random.Generator) -> Trace:  # noqa: D102
        if self.channel == "context" and not trace.context_names:
            raise ShiftError(
                f"channel of shift {self.name!r} is 'context', but trace {trace.name!r} has no context: "
                "use 'outcome' or 'observed'"
            )
        seed, first = int(rng.integers(2**63)), self.first(trace)
        whole: Values = getattr(trace, self.channel)
        chosen = self._chosen(trace)
        reference = whole[:, chosen]

        def run(values: Values) -> Values:
            scene = Scene(trace, reference, np.random.default_rng(seed), first)
            changed = values.copy()
            changed[:, chosen] = self._distorted(values[:, chosen], scene)
            return changed if self.channel == "context" else np.maximum(changed, trace.outcome_low)

        changes: dict[str, Any] = {self.channel: run(whole)}
        if self.channel == "outcome":
            same = np.array_equal(trace.observed, trace.outcome)
            changes["observed"] = changes["outcome"] if same else run(trace.observed)
        requests = trace.requests if self.channel == "context" else None  # else they no longer add up
        return trace.replace(requests=requests, **changes)

    def _chosen(self, trace: Trace) -> slice | list[int]:
        """Places of the columns that are shifted."""
        if self.columns is None:
            return slice(None)
        names = trace.context_names if self.channel == "context" else trace.outcome_names
        patterns = self.columns.split()
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ShiftError(
                    f"columns of shift {self.name!r} is {self.columns!r}, but no column of channel {self.channel!r} of "
                    f"trace {trace.name!r} is called {pattern!r}: give some of {', '.join(names)}"
                )
        return [place for place, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]

    def _distorted(self, values: Values, scene: Scene) -> Values:
        changed = np.asarray(self.distort(values, scene), dtype=np.float64)
        if changed.shape != values.shape:
            raise ShiftError(
                f"shift {self.name!r} made shape {changed.shape} of {values.shape}: its distort must keep it"
            )
        return changed


@dataclass(frozen=True, kw_only=True)
class TraceShift(SingleShift):
    """Base of the shifts that rearrange or replace whole slots: outcome, reading and context together."""

    channel: str = parameter(
        "outcome",
        kind="choice",
        choices=("outcome",),
        doc="whole slots: outcome, reading and context together",
    )
