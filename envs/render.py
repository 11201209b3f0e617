"""Pictures of a replay: what happened, what was decided, what the oracle would have done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCKS = "▁▂▃▄▅▆▇█"
RENDER_MODES = ["rgb_array", "ansi"]


@dataclass
class Trail:
    """The steps of one episode so far, one entry per decided value.

    Attributes
    ----------
    title : str
        What is replayed.
    axes : tuple of str
        Labels of the slots and of the values.
    outcomes, decisions, oracles : list of arrays
        One entry per step.
    cost, oracle_cost, violations : float
        Sums over the episode.
    """

    title: str
    axes: tuple[str, str]
    outcomes: list[NDArray[np.float64]] = field(default_factory=list)
    decisions: list[NDArray[np.float64]] = field(default_factory=list)
    oracles: list[NDArray[np.float64]] = field(default_factory=list)
    cost: float = 0.0
    oracle_cost: float = 0.0
    violations: int = 0

    def add(self, shown: tuple[Any, Any, Any], info: dict[str, Any]) -> None:
        """Append one step: outcome, decision and oracle, one value per slot, and its info."""
        for series, values in zip((self.outcomes, self.decisions, self.oracles), shown, strict=True):
            series.append(values)
        self.cost += float(info["cost"])
        self.oracle_cost += float(info["oracle_cost"])
        self.violations += int(info["violation"] > 0)

    def lines(self) -> dict[str, NDArray[np.float64]]:
        """The three series of the picture by their label."""
        series = {"outcome": self.outcomes, "decision": self.decisions, "oracle": self.oracles}
        return {label: np.concatenate(values) if values else np.empty(0) for label, values in series.items()}

    def summary(self) -> str:
        """Cost, regret and violations so far."""
        regret = self.cost - self.oracle_cost
        steps = len(self.outcomes)
        return f"{steps} steps  cost {self.cost:.4f}  regret {regret:.4f}  violations {self.violations}"


def render_text(trail: Trail) -> str:
    """Three sparklines on one scale, and the sums of the episode."""
    lines = trail.lines()
    every = np.concatenate([np.zeros(1), *lines.values()])
    low, height = every.min(), np.ptp(every) or 1.0
    rows = [trail.title]
    for label, values in lines.items():
        levels = ((values - low) / height * (len(_BLOCKS) - 1)).round().astype(int)
        rows.append(f"{label:>9} {''.join(_BLOCKS[level] for level in levels)}")
    return "\n".join([*rows, trail.summary()]) + "\n"


def render_array(trail: Trail) -> NDArray[np.uint8]:
    """The episode as an RGB image, 400 x 800."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # loaded by those who look
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles: dict[str, dict[str, Any]] = {
        "outcome": {"color": "0.6"},
        "decision": {"color": "#0072B2"},
        "oracle": {"color": "#E69F00", "linestyle": "--"},
    }
    for label, values in trail.lines().items():
        axes.step(np.arange(len(values)), values, where="post", label=label, **styles[label])
    axes.set(title=f"{trail.title}\n{trail.summary()}", xlabel=trail.axes[0], ylabel=trail.axes[1])
    axes.legend(loc="upper left", ncols=3, frameon=False)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
