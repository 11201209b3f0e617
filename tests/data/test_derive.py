"""Series derived from public files, on small made-up copies of those files."""

from __future__ import annotations

import ast
import base64
import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from shiftgym.data import TraceError, azure_figures, servegen
from shiftgym.data.azure_figures import MINUTES
from shiftgym.data.servegen import SERVICES


def servegen_files(rng: np.random.Generator, windows: int = 75) -> dict[str, str]:
    """Two to four clients a service; some without lengths, some windows without requests."""
    files: dict[str, str] = {}
    for service in SERVICES:
        for number in range(int(rng.integers(2, 5)) + 8):  # past 10, where sorting by text would go wrong
            rates = rng.gamma(1.0, 2.0, windows) * (rng.random(windows) > 0.3)
            rows = [f"{600 * i},{rate:.6f},{rng.uniform(0.5, 3):.4f},Gamma,1" for i, rate in enumerate(rates)]
            files[f"{service}/chunk-{number}-trace.csv"] = "\n".join(rows)
            if rng.random() < 0.7:
                files[f"{service}/chunk-{number}-dataset.json"] = json.dumps(_lengths(service, rng))
    return files


def _lengths(service: str, rng: np.random.Generator) -> dict[str, dict[str, str]]:
    def law() -> str:
        values = rng.integers(1, 5000, 4)
        return str({int(v): float(p) for v, p in zip(values, rng.random(4) + 0.1, strict=True)})

    media = [f"{kind}_{what}" for kind in ("image", "audio", "video") for what in ("count", "tokens")]
    inputs = ["text_tokens", *media] if "multimodal" in service else ["input_tokens"]
    empty = dict.fromkeys([*inputs, "output_tokens"], "{}")
    return {str(start): {name: law() for name in empty} if rng.random() < 0.8 else empty for start in (0, 21600, 43200)}


def pack(path: Path, files: dict[str, str]) -> Path:
    """Archive with the layout of a GitHub download."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"ServeGen-f891d11/data/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def weekly(low: float, high: float) -> np.ndarray:
    """A smooth week, one value a minute."""
    phase = 2 * np.pi * np.arange(MINUTES) / 1440
    return low + (high - low) * (0.5 - 0.4 * np.cos(phase) - 0.1 * np.cos(phase / 7))


def _picture(lines: dict[str, np.ndarray], unit: float, count: int, width: float) -> bytes:
    figure = Figure(figsize=(width, 3.2), dpi=100)
    axes = figure.subplots()
    for label, values in lines.items():
        axes.plot(np.arange(MINUTES), values, label=label)
    axes.set(xlim=(0, MINUTES), ylim=(0, unit * (count + 0.5)), yticks=unit * np.arange(1, count + 1), xticks=[])
    axes.grid(axis="y")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def azure_notebook(path: Path, series: dict[str, tuple[np.ndarray, ...]]) -> Path:
    """Notebook whose figures 6 to 9 draw requests of code, of conv, tokens of code, of conv, per minute."""
    code, conv = series["code"], series["conv"]
    blank = _picture({}, 1, 2, 4)
    pictures = [blank] * 6 + [
        _picture({"requests": code[0]}, 1000, 4, 15),
        _picture({"requests": conv[0]}, 1000, 4, 15),
        _picture({"input": code[1]}, 2e6, 5, 6.5),
        _picture({"input": conv[1], "output": conv[2]}, 1e6, 8, 6.5),
    ]
    outputs: list[dict[str, Any]] = [{"data": {"image/png": base64.b64encode(p).decode()}} for p in pictures]
    cells = [
        {"cell_type": "markdown"},
        {"outputs": [{"text": "no figure"}, *outputs[:5]]},
        {"outputs": outputs[5:]},
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def mean(text: str) -> float:
    law = ast.literal_eval(text)
    return sum(value * weight for value, weight in law.items()) / sum(law.values())


def expected_tokens(files: dict[str, str], service: str, time: int) -> tuple[float, float, float]:
    """Covered rate, input and output tokens per second, one client after the other."""
    covered = tokens_in = tokens_out = 0.0
    for name, text in files.items():
        if not name.startswith(f"{service}/") or not name.endswith("-trace.csv"):
            continue
        rate = next(float(row.split(",")[1]) for row in text.split() if row.startswith(f"{time},"))
        lengths = json.loads(files.get(name.replace("-trace.csv", "-dataset.json"), "{}"))
        known = [int(s) for s, laws in lengths.items() if int(s) <= time and laws["output_tokens"] != "{}"]
        if not known:
            continue
        laws = lengths[str(max(known))]
        inputs = mean(laws["input_tokens"]) if "input_tokens" in laws else mean(laws["text_tokens"])
        for kind in ("image", "audio", "video") if "text_tokens" in laws else ():
            inputs += mean(laws[f"{kind}_count"]) * mean(laws[f"{kind}_tokens"])
        covered += rate
        tokens_in += rate * inputs
        tokens_out += rate * mean(laws["output_tokens"])
    return covered, tokens_in, tokens_out


def test_servegen_adds_up_the_clients(tmp_path: Path) -> None:
    files = servegen_files(np.random.default_rng(0))
    servegen.derive(pack(tmp_path / "archive.tar.gz", files), tmp_path / "series.csv")
    rows = read(tmp_path / "series.csv")
    assert len(rows) == 75 * len(SERVICES)
    for service in SERVICES:
        series = [row for row in rows if row["service"] == service.split("/")[1]]
        for row in series[::20]:
            columns = ("req_per_s_with_lengths", "input_tok_per_s", "output_tok_per_s")
            found = [float(row[column]) for column in columns]
            np.testing.assert_allclose(found, expected_tokens(files, service, int(row["t_s"])), rtol=1e-5)


def test_servegen_names_a_missing_service(tmp_path: Path) -> None:
    files = servegen_files(np.random.default_rng(0), windows=3)
    kept = {name: text for name, text in files.items() if "deepseek" not in name}
    with pytest.raises(TraceError, match="reason/deepseek-r1"):
        servegen.derive(pack(tmp_path / "archive.tar.gz", kept), tmp_path / "series.csv")
    assert not (tmp_path / "series.csv").exists()


def test_figures_are_read_back_to_a_pixel(tmp_path: Path) -> None:
    drawn = {
        "code": (weekly(800, 3500), weekly(2e6, 9e6)),
        "conv": (weekly(1000, 3800), weekly(2e6, 6e6), weekly(1e5, 4e5)),
    }
    azure_figures.derive(azure_notebook(tmp_path / "week.ipynb", drawn), tmp_path / "series.csv")
    rows = read(tmp_path / "series.csv")
    pixel = {"req_per_min": 4500 / 240, "input_tok_per_min": 1.1e7 / 240, "output_tok_per_min": 8.5e6 / 240}
    for service, lines in drawn.items():
        series = [row for row in rows if row["service"] == service]
        assert [row["utc"] for row in series[:2]] == [
            f"{series[0]['utc'][:10]} 00:00:00",
            f"{series[0]['utc'][:10]} 00:10:00",
        ]
        for column, values in zip(pixel, lines, strict=False):
            found = np.array([float(row[column]) for row in series])
            error = np.abs(found - values.reshape(-1, 10).mean(1))
            assert error.mean() < 1.5 * pixel[column]
            assert error.max() < 4 * pixel[column]  # where the line is steep, a column spans several rows
    assert {row["output_tok_per_min"] for row in rows if row["service"] == "code"} == {""}


def test_figures_of_another_notebook_are_refused(tmp_path: Path) -> None:
    notebook = tmp_path / "other.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": []}]}))
    with pytest.raises(TraceError, match="0 figures"):
        azure_figures.derive(notebook, tmp_path / "series.csv")
