"""Stand-ins that several tests look at, drawn once in a process."""

from __future__ import annotations

from functools import cache

from shiftgym.data.synthetic import synthetic_trace

drawn = cache(synthetic_trace)
