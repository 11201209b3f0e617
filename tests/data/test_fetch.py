from __future__ import annotations

import errno
import gzip
import hashlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shiftgym.data import DownloadError, ShiftgymError, fetch_trace, load_trace
from shiftgym.data import fetch as fetching
from shiftgym.data.catalogue import PublicFile, entry
from shiftgym.data.download import CHUNK
from shiftgym.data.fetch import fetch, find, status
from shiftgym.data.files import atomic_write, explain_full_disk

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """What the test server sends, and what it was asked."""

    address: str = ""
    body: bytes = BODY
    etag: str = '"1"'
    cuts: list[int] = field(default_factory=list)  # bytes after which a connection is cut, one per request
    ranges: list[str] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("SHIFTGYM_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/gone":
                self.send_error(404)
                return
            wanted = self.headers.get("Range", "")
            state.ranges.append(wanted)
            fresh = self.headers.get("If-Range", state.etag) == state.etag
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fresh else 0
            if first >= len(state.body):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(state.body) - first))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts else len(state.body)
            self.wfile.write(state.body[first : first + cut])

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


def public(server: Server, **changes: Any) -> PublicFile:
    # the key of a real file, so that the messages can name traces
    fields = {
        "key": "azure-2023-conv",
        "path": "llm/log.csv",
        "url": f"{server.address}/log.csv",
        "sha256": DIGEST,
    }
    return PublicFile(**(fields | changes))


def left_over(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = fetch(public(server))
    assert path == tmp_path / "cache/llm/log.csv"
    assert path.read_bytes() == BODY
    assert fetch(public(server)) == path
    assert len(server.ranges) == 1
    assert left_over(tmp_path) == ["log.csv"]
    assert status(public(server)) == "ok"


@pytest.mark.skipif(sys.platform == "win32", reason="file locks are POSIX")
def test_workers_that_start_together_download_once(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, [public(server)] * 4))
    assert len(set(paths)) == 1
    assert len(server.ranges) == 1


def test_a_cut_connection_is_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.cuts = [10 * CHUNK, 5 * CHUNK + 1]
    assert fetch(public(server)).read_bytes() == BODY
    assert server.ranges == ["", f"bytes={10 * CHUNK}-", f"bytes={15 * CHUNK}-"]
    assert left_over(tmp_path) == ["log.csv"]


def test_a_later_call_resumes(server: Server, tmp_path: Path) -> None:
    server.cuts = [3 * CHUNK, 0]
    with pytest.raises(DownloadError, match="cannot be reached: the connection broke"):
        fetch(public(server))
    assert left_over(tmp_path) == ["log.csv.part", "log.csv.part.etag"]
    assert fetch(public(server)).read_bytes() == BODY
    assert server.ranges[-1] == f"bytes={3 * CHUNK}-"


@pytest.mark.parametrize("sha256", [DIGEST, ""])
def test_a_file_that_changed_in_between_starts_afresh(server: Server, sha256: str) -> None:
    server.body, server.etag, server.cuts = b"older" * 100_000, '"0"', [3 * CHUNK, 0]
    with pytest.raises(DownloadError):
        fetch(public(server, sha256=sha256))
    server.body, server.etag = BODY, '"1"'
    assert fetch(public(server, sha256=sha256)).read_bytes() == BODY


def test_without_etag_and_checksum_nothing_is_resumed(server: Server) -> None:
    server.etag, server.cuts = "", [3 * CHUNK]
    assert fetch(public(server, sha256="")).read_bytes() == BODY
    assert server.ranges == ["", ""]


def test_a_partial_file_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "cache/llm/log.csv.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY + b"more")
    assert fetch(public(server)).read_bytes() == BODY


def test_a_corrupt_download_names_both_checksums_and_is_removed(server: Server, tmp_path: Path) -> None:
    server.body = b"a page of an error" * 10
    found = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DownloadError, match=f"removed.*{DIGEST}.*{found}"):
        fetch(public(server))
    assert left_over(tmp_path) == []


def test_a_missing_address_says_so(server: Server) -> None:
    with pytest.raises(DownloadError, match="404"):
        fetch(public(server, url=f"{server.address}/gone"))


def test_offline_names_the_ways_out(server: Server) -> None:
    (file,) = entry("azure-2023-conv").files
    closed = PublicFile(file.key, file.path, "http://127.0.0.1:9/log.csv", file.sha256)
    with pytest.raises(
        DownloadError, match=r"127\.0\.0\.1:9/log\.csv cannot be reached.*fetch.*SHIFTGYM_DATA.*no download"
    ):
        fetch(closed)


def test_the_first_download_without_checksum_is_recorded(server: Server, tmp_path: Path) -> None:
    file = public(server, sha256="")
    path = fetch(file)
    assert (tmp_path / "cache/llm/log.csv.sha256").read_text() == f"{DIGEST}  log.csv\n"
    assert status(file) == "recorded"
    path.write_bytes(b"changed")
    assert status(file) == "corrupt"


def test_a_broken_file_in_the_cache_is_downloaded_again(server: Server) -> None:
    path = fetch(public(server))
    path.write_bytes(b"broken")
    assert fetch(public(server)).read_bytes() == BODY


@pytest.mark.parametrize("place", ["llm/log.csv", "log.csv", "llm/log.csv.gz", "log.csv.gz"])
def test_the_data_folder_comes_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "data" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(BODY, mtime=0) if place.endswith(".gz") else BODY)
    monkeypatch.setenv("SHIFTGYM_DATA", str(tmp_path / "data"))
    packed = hashlib.sha256(gzip.compress(BODY, mtime=0)).hexdigest()
    assert fetch(public(server, sha256_gz=packed)) == path
    assert status(public(server, sha256_gz=packed)) == "ok"
    assert server.ranges == []


def test_a_wrong_file_in_the_data_folder_is_kept_and_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_bytes(b"mine")
    monkeypatch.setenv("SHIFTGYM_DATA", str(tmp_path))
    with pytest.raises(DownloadError, match=f"expected {DIGEST}, found {hashlib.sha256(b'mine').hexdigest()}"):
        fetch(public(server))
    assert (tmp_path / "log.csv").read_bytes() == b"mine"


def test_a_data_folder_that_is_none_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFTGYM_DATA", "/no/such/folder")
    with pytest.raises(ShiftgymError, match="'/no/such/folder', which is no folder"):
        find(public(server))


def test_a_derived_file_is_made_from_a_checked_source(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shiftgym.data import azure_figures

    def derive(source: Path, target: Path) -> None:
        with atomic_write(target, "wb") as handle:
            handle.write(source.read_bytes()[:10])

    monkeypatch.setattr(azure_figures, "derive", derive)
    known = hashlib.sha256(BODY[:10]).hexdigest()
    file = public(server, derive="azure_figures", sha256_derived=(known,))
    assert fetch(file).read_bytes() == BODY[:10]
    assert left_over(tmp_path) == ["log.csv"]  # the source is gone
    other = public(server, path="llm/other.csv", derive="azure_figures", sha256_derived=("0" * 64,))
    with pytest.warns(UserWarning, match="differs from the known result"):
        fetch(other)
    assert status(other) == "recorded"


def test_a_derivation_gets_the_other_files_that_it_reads(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shiftgym.data import sp500

    def derive(source: Path, target: Path, members: Path) -> None:
        with atomic_write(target, "wb") as handle:
            handle.write(source.read_bytes()[:10] + members.read_bytes()[:3])

    monkeypatch.setattr(sp500, "derive", derive)
    members = public(server, key="sp500-members", path="market/members.csv")
    monkeypatch.setattr(fetching, "public_files", lambda: {members.key: members})
    known = hashlib.sha256(BODY[:10] + BODY[:3]).hexdigest()
    file = public(
        server, path="market/close.csv", sha256="", derive="sp500", sha256_derived=(known,), also=(members.key,)
    )
    assert fetch(file).read_bytes() == BODY[:10] + BODY[:3]
    assert left_over(tmp_path) == ["close.csv", "members.csv"]
    assert status(file) == "ok"


def test_a_derived_file_may_lie_packed_and_a_public_one_be_packed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(b"date,A", mtime=0)
    digest = hashlib.sha256(packed).hexdigest()
    monkeypatch.setenv("SHIFTGYM_DATA", str(tmp_path))
    (tmp_path / "close.csv.gz").write_bytes(packed)
    derived = public(server, path="market/close.csv", derive="sp500", sha256_derived=("0" * 64,), sha256_gz=digest)
    assert status(derived) == "ok"
    assert status(public(server, path="market/close.csv.gz", sha256=digest)) == "ok"
    assert status(public(server, path="market/close.csv.gz", sha256=DIGEST)) == "corrupt"


def test_load_trace_says_what_to_do_without_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any) -> None:
        raise DownloadError("https://example.org cannot be reached: offline")

    monkeypatch.setattr("shiftgym.data.download.download", offline)
    for look_up in (load_trace, fetch_trace):
        with pytest.raises(DownloadError, match=r"offline\. Ways out: .* synthetic-azure-2023-code"):
            look_up("azure-2023-code")


def write_half(path: Path, error: BaseException) -> None:
    with atomic_write(path) as handle:
        handle.write("half")
        raise error


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(ShiftgymError, match=r"no space left to write .*scores\.csv \(.* MB free"):
        write_half(path, OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_text() == "old"
    assert left_over(tmp_path) == ["scores.csv"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()])
def test_any_interruption_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_half(tmp_path / "deep" / "scores.csv", error)
    assert left_over(tmp_path) == []


def test_atomic_write_writes_text_and_bytes(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as handle:
        handle.write("ä\n")
    with atomic_write(tmp_path / "a.bin", "wb") as handle:
        handle.write(b"\0")
    assert (tmp_path / "a.txt").read_bytes() == "ä\n".encode()
    assert (tmp_path / "a.bin").read_bytes() == b"\0"
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_other_errors_of_the_disk_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), explain_full_disk(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")
