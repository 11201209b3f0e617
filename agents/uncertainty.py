"""Learning what the next day may bring: intervals and means with deviations, per series and hour.

=================  =========================================  ==========================================
paper              here                                       meaning
=================  =========================================  ==========================================
phi                :meth:`Series.features`                    what is known before the day
f_theta            :class:`Point`, :class:`Interval`,         one network per group, shared by its series
                   :class:`Moments`                           and hours
xi                 targets, over the training mean            what the day brings
l, u               output of :class:`Interval`                interval quantiles, equation 24
mu, sigma          output of :class:`Moments`                 mean and deviation, equation 25
alpha, lambda_w    :data:`ALPHA`, :data:`WIDTH_WEIGHT`        quantiles, price of width
=================  =========================================  ==========================================

Source: Contextual Robust Optimization for AI Data Center Scheduling, equations 23 to 25.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..envs.task import Floats, Layout, Observations
from .networks import Standardised, layers
from .threads import single_thread
from .trained import Samples, descend, kept_generator

if TYPE_CHECKING:
    from ..solvers.data_center import DataCenter

#: Groups of uncertain series in the order of an outcome: kW, requests per second, GPU hours per hour.
GROUPS = ("renewables", "requests", "arrivals")
#: The interval is from the ALPHA / 2 to the 1 - ALPHA / 2 quantile, each moved inwards by WIDTH_WEIGHT.
ALPHA, WIDTH_WEIGHT = 0.1, 0.02
#: Log variances are kept within these bounds, in units of the training mean.
_LOG_VARIANCE = (-9.0, 4.0)
#: Weekday one-hot, season as sine and cosine: the first columns of a day's context.
_CALENDAR = 9


@dataclass(frozen=True)
class Series:
    """How many series there are of each group, and where they are in an observation of the data center.

    Attributes
    ----------
    renewables, requests, arrivals : int
        Centers, services, training classes.
    weather : int
        Hourly weather forecasts in the context; forecast i is that of plant i where there are as many as plants, all of
        them matter to every plant otherwise.
    hours : int
        T, hours of a day's schedule.
    """

    renewables: int
    requests: int
    arrivals: int
    weather: int
    hours: int = 24

    @classmethod
    def of(cls, problem: DataCenter, layout: Layout) -> Series:
        """The series of a problem and of its observations."""
        hours = problem.fleet.slots
        weather = (layout.context - _CALENDAR) // hours - 2 * problem.fleet.size
        return cls(**problem.rows, weather=weather, hours=hours)

    @property
    def uncertain(self) -> int:
        """Columns of an outcome that are not known before the day."""
        return (self.renewables + self.requests + self.arrivals) * self.hours

    def split(self, columns: Any) -> dict[str, Any]:
        """Columns (..., uncertain and more) as one array (..., series, T) per group; what is more is left out."""
        parts, place = {}, 0
        for group in GROUPS:
            count = getattr(self, group)
            part = columns[..., place : place + count * self.hours]
            parts[group] = part.reshape(*part.shape[:-1], count, self.hours)
            place += count * self.hours
        return parts

    def yesterday(self, layout: Layout, observations: Observations) -> Floats:
        """The uncertain columns (B, uncertain) of the day before, as the sensors read them."""
        return layout.history(observations)[:, -1, : self.uncertain].astype(np.float64)

    def features(self, layout: Layout, observations: Observations, means: dict[str, Floats]) -> dict[str, Floats]:
        """Features (B, series, T, F) of each hour that is to come, by group.

        Which series, the hour as three harmonics, weekday and season, the series the day before (the same hour, the
        mean, the last hour) and, where the history reaches back, a week before (the same hour) and over that week (the
        mean), and the weather forecast for plants (the hour, the ones beside it, the mean).
        """
        history = self.split(layout.history(observations)[..., : self.uncertain])
        context = layout.rest(observations)
        calendar = context[:, None, None, :_CALENDAR]
        weather = context[:, _CALENDAR : _CALENDAR + self.weather * self.hours]
        weather = weather.reshape(len(context), self.weather, self.hours)
        angle = 2 * np.pi * np.arange(self.hours)[:, None] * np.arange(1, 4) / self.hours
        hour = np.concatenate((np.sin(angle), np.cos(angle)), axis=-1)
        features = {}
        for group in GROUPS:
            past = history[group] / means[group][:, None]  # (B, lookback, series, T)
            size = (len(past), past.shape[2], self.hours)
            lag = past[:, -1]
            columns = [lag, lag.mean(-1, keepdims=True), lag[..., -1:]]
            if layout.lookback >= 7:
                columns += [past[:, -7], past[:, -7:].mean((1, 3))[..., None]]
            if group == "renewables":
                columns += self._of_weather(weather)
            parts = [np.eye(size[1])[:, None], hour, calendar, *(column[..., None] for column in columns)]
            features[group] = np.concatenate(
                [np.broadcast_to(part, (*size, part.shape[-1])) for part in parts], axis=-1
            )
        return features

    def _of_weather(self, weather: Floats) -> list[Floats]:
        """What the plants see of the weather forecasts (B, weather, T)."""
        own = self.weather == self.renewables
        each = [weather] if own else [weather[:, [i]] for i in range(self.weather)]
        return [
            column
            for forecast in each
            for column in (
                forecast,
                np.roll(forecast, 1, -1),
                np.roll(forecast, -1, -1),
                forecast.mean(-1, keepdims=True),
            )
        ]


# ---------------------------------------------------------------------- networks
class Point(nn.Module):
    """A mean (n, 1) for features (n, F), trained on squared errors."""

    outputs = 1

    def __init__(self, mean: Tensor, scale: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.body = nn.Sequential(Standardised(mean, scale), layers(len(mean), hidden, self.outputs))

    def forward(self, features: Tensor) -> Tensor:
        """The mean."""
        out: Tensor = self.body(features)
        return out

    def stages(self) -> list[Callable[[Samples], Tensor]]:
        """What is minimised, one after the other."""
        return [lambda samples: ((samples.outcomes - self(samples.observations)) ** 2).mean()]


class Interval(Point):
    """Bounds (n, 2) of an interval, trained on the interval quantile loss (equation 24)."""

    outputs = 2

    def forward(self, features: Tensor) -> Tensor:
        """Lower bound, and upper bound, which is never below it."""
        low, width = self.body(features).chunk(2, dim=-1)
        return torch.cat((low, low + nn.functional.softplus(width)), dim=-1)

    def stages(self) -> list[Callable[[Samples], Tensor]]:
        """The interval quantile loss."""
        return [lambda samples: interval_quantile_loss(self(samples.observations), samples.outcomes)]


class Moments(nn.Module):
    """Mean and standard deviation (n, 2), trained in two stages.

    The mean on squared errors, then the deviation on the mean-variance loss (equation 25) around that mean: trained
    together, the mean would be fitted badly wherever the deviation is large.
    """

    def __init__(self, mean: Tensor, scale: Tensor, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.mean, self.log_variance = Point(mean, scale, hidden), Point(mean, scale, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """Mean and standard deviation."""
        mean, log_variance = self._moments(features)
        return torch.cat((mean, torch.exp(log_variance / 2)), dim=-1)

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(features), self.log_variance(features).clamp(*_LOG_VARIANCE)

    def stages(self) -> list[Callable[[Samples], Tensor]]:
        """Squared error, then the mean-variance loss."""

        def spread(samples: Samples) -> Tensor:
            mean, log_variance = self._moments(samples.observations)
            return mean_variance_loss(mean.detach(), log_variance, samples.outcomes)

        return [*self.mean.stages(), spread]


NETWORKS: dict[str, type[Point | Moments]] = {"mse": Point, "iql": Interval, "mvl": Moments}


def interval_quantile_loss(bounds: Tensor, targets: Tensor) -> Tensor:
    """Mean pinball loss of both bounds (n, 2) plus the price of the width (equation 24), for targets (n, 1)."""
    low, high = bounds.chunk(2, dim=-1)
    return (
        pinball(targets - low, ALPHA / 2) + pinball(targets - high, 1 - ALPHA / 2) + WIDTH_WEIGHT * (high - low)
    ).mean()


def pinball(errors: Tensor, level: float) -> Tensor:
    """The loss max(q e, (q - 1) e), whose least mean is at the q-quantile."""
    return torch.maximum(level * errors, (level - 1) * errors)


def mean_variance_loss(mean: Tensor, log_variance: Tensor, targets: Tensor) -> Tensor:
    """Mean of (xi - mu)^2 / sigma^2 + log sigma^2 (equation 25)."""
    return ((targets - mean) ** 2 * torch.exp(-log_variance) + log_variance).mean()


@dataclass(frozen=True)
class Learning:
    """How a network is trained: widths of its layers, passes, rows of a batch, step size, seed."""

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def fit(self, learner: str, features: Floats, targets: Floats) -> nn.Module:
        """Train the network of a learner ("mse", "iql", "mvl").

        Parameters
        ----------
        learner : str
            One of :data:`NETWORKS`.
        features : array, shape (days, series, T, F)
            What is known.
        targets : array, shape (days, series, T)
            What came, over the training mean.
        """
        x = torch.as_tensor(features.reshape(-1, features.shape[-1]), dtype=torch.float32)
        samples = Samples(x, torch.as_tensor(targets.reshape(-1, 1), dtype=torch.float32), None)
        with kept_generator(x), single_thread():
            torch.manual_seed(self.seed)
            network = NETWORKS[learner](x.mean(0), x.std(0), self.hidden)
            order = torch.Generator().manual_seed(self.seed)
            for objective in network.stages():
                steps = descend(
                    network, objective, samples, self.batch_size, self.epochs, self.learning_rate, 0.95, order
                )
                for averaged in steps:
                    kept = averaged.state_dict()
                network.load_state_dict(kept)
        return network


def predict(network: nn.Module, features: Floats) -> list[Floats]:
    """Outputs of a network for features (B, series, T, F): one array (B, series, T) each."""
    with torch.no_grad(), single_thread():
        flat = torch.as_tensor(features.reshape(-1, features.shape[-1]), dtype=torch.float32)
        out = network(flat).double().numpy()
    return [np.ascontiguousarray(out[:, i].reshape(features.shape[:-1])) for i in range(out.shape[1])]
