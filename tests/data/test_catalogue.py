from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shiftgym.data import (
    RequestLog,
    Trace,
    TraceError,
    UnknownNameError,
    list_traces,
    load_requests,
    load_trace,
    register_trace,
    trace_info,
)
from shiftgym.data.catalogue import catalogue, public_files

SERIES = [name for name, info in catalogue().items() if info.kind == "series"]
LOGS = [name for name, info in catalogue().items() if info.kind == "requests" and not info.streamed]


def hourly(name: str = "mine", length: int = 72) -> Trace:
    stamps = np.datetime64("2026-01-01", "ns") + np.arange(length) * np.timedelta64(1, "h")
    return Trace(name, stamps, np.arange(length, dtype=float), 3600.0)


def test_every_trace_states_its_origin() -> None:
    for info in catalogue().values():
        assert info.title
        assert info.licence
        assert info.citation
        assert info.columns
        assert info.span
        assert info.files
        assert all(file.url.startswith("https://") for file in info.files)
        assert info.provenance.url.split() == list(dict.fromkeys(file.url for file in info.files))
        assert not info.synthetic


def test_every_file_has_a_checksum_or_says_why_not() -> None:
    for file in public_files().values():
        reads = ((info.notes, (known.key, *known.also)) for info in catalogue().values() for known in info.files)
        notes = [text for text, keys in reads if file.key in keys]
        assert notes, f"no trace reads {file.key}"
        assert file.sha256 or file.sha256_derived or all("trusted" in note for note in notes)
        for digest in (file.sha256, file.sha256_gz, *file.sha256_derived):
            assert len(digest) in (0, 64)


def test_each_trace_has_a_stand_in() -> None:
    for name in catalogue():
        assert f"synthetic-{name}" in list_traces()
        assert trace_info(f"synthetic-{name}").synthetic


def test_unknown_names_list_the_closest() -> None:
    for look_up in (load_trace, load_requests, trace_info):
        with pytest.raises(UnknownNameError, match="unknown trace 'azure-2023-con'; did you mean 'azure-2023-conv'"):
            look_up("azure-2023-con")


def test_a_trace_of_ones_own_is_loaded_by_name() -> None:
    register_trace("mine", hourly)
    assert "mine" in list_traces()
    trace = load_trace("mine@2h[1:4]")
    assert trace.outcome[:, 0].tolist() == [5, 9, 13]
    assert trace.context_names == ("hour_sin", "hour_cos")
    with pytest.raises(TraceError, match="no request log"):
        load_requests("mine")
    register_trace("mine", lambda: hourly(length=5))
    assert len(load_trace("mine")) == 5
    for name in ("azure-2023-conv", "synthetic-azure-2023-conv", "a@b", "a[0]", ""):
        with pytest.raises(TraceError, match="trace name"):
            register_trace(name, hourly)


def test_a_log_of_ones_own_has_slots_of_two_seconds() -> None:
    stamps = np.datetime64("2026-01-01", "ns") + np.arange(9) * np.timedelta64(1, "s")
    register_trace("arrivals", lambda: RequestLog("arrivals", stamps, np.ones(9), np.zeros(9)))
    assert load_trace("arrivals").outcome[:, 0].tolist() == [2, 2, 2, 2]
    assert load_trace("arrivals", slot=4, window=(1, None)).outcome[:, 0].tolist() == [4]
    assert len(load_requests("arrivals")) == 9


def test_a_file_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "log @home [1].csv"
    path.write_text("when,in tokens\n0,5\n1,7\n4,1\n")
    spec = f"file:{path}?time=when&prompt=in tokens&unit=s"
    assert load_trace(f"{spec}@2s[0:1]").outcome.tolist() == [[12]]
    assert len(load_requests(spec)) == 3
    path.write_text("when,in tokens\n0,5\n1,7\n4,1\n6,1\n8,1\n")
    assert len(load_requests(spec)) == 5  # read anew when the file has changed
    for wrong, message in (
        ("?time=when", "no 'prompt'"),
        ("?time=when&prompt=p&x=1", "unknown option 'x'"),
        ("", "no 'time'"),
    ):
        with pytest.raises(TraceError, match=message):
            load_trace(f"file:{path}{wrong}")
    with pytest.raises(TraceError, match="does not exist"):
        load_trace(f"file:{tmp_path}/gone.csv?time=when&prompt=p")


def test_slot_and_window_are_given_once() -> None:
    register_trace("once", hourly)
    with pytest.raises(TraceError, match=r"slot of trace .* given twice"):
        load_trace("once@2h", slot="2h")
    with pytest.raises(TraceError, match=r"window of trace .* given twice"):
        load_trace("once[0:1]", window=(0, 1))
    with pytest.raises(TraceError, match="not a multiple of 1h"):
        load_trace("once@90min")
    with pytest.raises(TraceError, match="longer than trace"):
        load_trace("once@100d")
    with pytest.raises(TraceError, match="outside"):
        load_trace("once[0:73]")
    with pytest.raises(TraceError, match="not a duration"):
        load_trace("once", slot=0.0)


@pytest.mark.parametrize("name", ["azure-2024-conv", "synthetic-azure-2024-conv"])
def test_a_streamed_log_is_not_kept(name: str) -> None:
    with pytest.raises(TraceError, match="too large"):
        load_requests(name)


def test_a_streamed_log_is_read_in_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = trace_info("azure-2024-code").files
    stamps = ("2024-05-10 00:00:00.01+00:00", "2024-05-10 00:00:00.5+00:00", "2024-05-13 00:00:00+00:00")
    rows = "".join(f"{stamp},10,1\n" for stamp in stamps)
    (tmp_path / Path(file.path).name).write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    monkeypatch.setenv("SHIFTGYM_DATA", str(tmp_path))
    trace = load_trace("azure-2024-code@1h")
    assert trace.outcome[:, 0].tolist() == [22, *[0] * 70]
    assert trace.requests is None
    assert trace.context_names == ("hour_sin", "hour_cos")
    made = load_trace("synthetic-azure-2024-code@10min")
    assert made.synthetic
    assert (made.slot, made.outcome_units, made.context_names) == (600, ("tokens/10min",), trace.context_names)


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, shiftgym.data as d; d.list_traces(); d.trace_info('burstgpt-hourly'); "
        "heavy = {'pandas', 'pyarrow', 'pooch', 'requests', 'rich', 'torch', 'scipy', 'matplotlib'}; "
        "print(*heavy & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


@pytest.mark.real(*SERIES)
@pytest.mark.parametrize(
    ("name", "slots", "per_second", "zeros"),
    [
        ("azure-2024-conv-10min", 1008, 77868.0, 0),
        ("azure-2024-code-10min", 1008, 71200.0, 0),
        ("azure-2024-conv-hourly", 144, 47.7, 0),
        ("burstgpt-hourly", 1464, 0.271, 36),
        ("servegen-m-mid", 2016, 680843.0, 84),
        ("servegen-m-small", 2016, 161601.0, 37),
        ("servegen-m-large", 2016, 208880.0, 0),
        ("servegen-deepseek-r1", 144, 44772.0, 0),
        ("servegen-mm-image", 144, 14892.0, 0),
    ],
)
def test_real_series_have_the_published_figures(name: str, slots: int, per_second: float, zeros: int) -> None:
    trace = load_trace(name)
    assert len(trace) == slots
    assert trace.outcome.mean() / trace.slot == pytest.approx(per_second, rel=2e-3)
    assert (trace.outcome == 0).sum() == zeros
    assert trace.outcome_units[0].endswith(("/10min", "/1h"))
    assert trace.provenance.licence
    assert len(trace.context_names) == (
        0 if slots * trace.slot <= 86400 else 2 if slots * trace.slot < 14 * 86400 else 4
    )
    assert load_trace(f"{name}@2h").outcome.sum() == pytest.approx(trace.outcome.sum())


@pytest.mark.real
def test_a_second_load_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_trace("azure-2023-conv@2s[0.5:]")
    monkeypatch.setattr("shiftgym.data.loaders.read_requests", lambda *_, **__: pytest.fail("read again"))
    second = load_trace("azure-2023-conv@2s[0.5:]")
    assert np.array_equal(first.outcome, second.outcome)


@pytest.mark.real(*LOGS, *SERIES)
@pytest.mark.parametrize("name", [*LOGS, *SERIES])
def test_stand_ins_have_the_form_of_the_real_traces(name: str) -> None:
    real, made = load_trace(name), load_trace(f"synthetic-{name}")
    assert made.synthetic
    assert not real.synthetic
    assert made.slot == real.slot
    assert made.outcome_names == real.outcome_names
    assert made.outcome_units == real.outcome_units
    assert made.context_names == real.context_names
