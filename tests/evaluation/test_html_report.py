import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from shiftgym.evaluate import main
from shiftgym.evaluation import html_replay
from shiftgym.evaluation import report as reports
from shiftgym.evaluation.agent_spec import AgentSpec
from shiftgym.evaluation.html_figures import looks_of
from shiftgym.evaluation.html_replay import replays
from shiftgym.evaluation.report import report, report_side_by_side
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import execute
from shiftgym.evaluation.runs import Runs
from shiftgym.evaluation.scenario import Scenario, Suite
from tests.browser import PROGRAM, Browser

NASTY = "</script><script>alert('no')</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """The elements of a page as (tag, attributes), its scripts, and the rows of its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.rows, self.words = [], [], [], []
        self._inside = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "script":
            self.scripts[-1] += data
        elif {"td", "th"} & set(self._inside):
            self.rows[-1][-1] += data
        if self._inside and self._inside[-1] not in ("script", "style"):
            self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """Pictures have tests of their own, and take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports, "draw_plots", lambda run: [])
        yield


@pytest.fixture(scope="module")
def run(executed, tmp_path_factory):
    folder = shutil.copytree(executed, tmp_path_factory.mktemp("page") / "one")
    report(Run(folder), Console(quiet=True))
    return Run(folder)


@pytest.fixture(scope="module")
def text(run):
    return (run.folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_needs_nothing_from_anywhere(text, page):
    links = [
        a[key] for _, a in page.elements for key in ("src", "href", "action", "data", "poster", "srcset") if key in a
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not page.of("link")
    assert "url(" not in re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert len(text.encode()) < 3_000_000
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not {"http", "unsafe-eval", "connect-src"} & set(re.split(r"[\s:;']+", policy))
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]]
    assert re.findall(r"sha256-([\w+/=]+)", policy) == digests  # none but these is ever run
    assert len(digests) == 2


def test_the_leaderboard_has_average_worst_violation_and_time(run, page):
    start = next(i for i, row in enumerate(page.rows) if row[:3] == ["agent", "average", "worst scenario"])
    heads, *rows = page.rows[start : start + 4]
    assert heads[3:] == ["violated steps, %", "fit, s", "decision, ms", "home", "grown"]
    mean = run.results.query("sweep == ''").groupby(["agent", "scenario"])["normalised_regret"].mean().unstack()
    order = mean.mean(axis=1).drop("oracle").sort_values().index.tolist()
    assert [row[0].strip() for row in rows] == [*order, "oracle"]
    for row in rows[:2]:
        agent = row[0].strip()
        assert float(row[1]) == pytest.approx(mean.loc[agent].mean(), abs=6e-4)
        assert row[2] == f"{mean.loc[agent].max():.3f}{mean.loc[agent].idxmax()}"
        assert row[6].startswith(f"{mean.loc[agent, 'home']:.3f} ±")
    best = [a for a in page.of("td") if "best" in a.get("class", "")]
    assert float(best[0]["data-value"]) == pytest.approx(mean.mean(axis=1).drop("oracle").min())


def test_what_was_run_and_on_what_is_there(run, page):
    words = " ".join(page.words)
    for wanted in (run.info["command"], run.info["machine"]["cpu"], run.info["versions"]["numpy"], "0, 1", "measured"):
        assert wanted in words
    assert "scale(factor=2.0, onset=0.5)" in words
    assert "synthetic" not in words


def test_every_figure_has_a_place_and_says_what_it_is(page):
    places = {a["id"]: a for a in page.of("div") if a.get("class") == "figure"}
    assert set(page.data["figures"]) == set(places)
    assert {"severity-figure-0", "cost-figure", "distribution-figure", "replay-figure", "profile-figure"} <= set(places)
    assert all(a["role"] == "img" and len(a["aria-label"]) > 10 for a in places.values())
    labelled = {a["for"] for a in page.of("label") if "for" in a}
    assert {a["id"] for a in page.of("select")} <= labelled


def test_replays_are_those_of_the_steps(run, page):
    packed = page.data["replays"]
    shown = packed["scenarios"]["grown"]
    stretch = shown["stretches"][0]
    steps = run.steps("grown", "saa", 0)

    def unpacked(number, dtype="<f4"):
        return np.frombuffer(base64.b64decode(packed["arrays"][number]), dtype)

    assert stretch["label"] == "whole replay"
    mine = stretch["agents"]["saa"]
    np.testing.assert_allclose(unpacked(stretch["time"], "<f8"), steps["step_time"])
    np.testing.assert_allclose(unpacked(stretch["outcome"]), steps["shown_outcome_0"], rtol=1e-6)
    np.testing.assert_allclose(unpacked(mine["decision"]), steps["shown_decision_0"], rtol=1e-6)
    np.testing.assert_array_equal(unpacked(mine["violated"], "u1").astype(bool), steps["violation"])
    assert shown["onset"] == steps["step_time"][steps["shifted"].to_numpy(bool)].iloc[0]
    assert packed["scenarios"]["home"]["onset"] is None
    assert len({agent["oracle"] for agent in stretch["agents"].values()}) == 1  # kept once for all


def test_long_replays_are_thinned_and_cut(run, monkeypatch):
    monkeypatch.setattr(html_replay, "_MOST", 60)
    thinned = replays(run)["scenarios"]["grown"]
    assert [s["label"].split(",")[0] for s in thinned["stretches"]] == [
        "whole replay", "typical regret", "most regret", "onset of the shift",
    ]  # fmt: skip
    monkeypatch.setattr(html_replay, "_BYTES", 2 * 3 * 60 * 2 * html_replay._BYTES_PER_VALUE)
    found = replays(run)
    assert (list(found["scenarios"]), found["left_out"]) == (["home", "grown"], ["noise x0", "noise x1"])


def test_thinning_keeps_the_steps_of_most_regret():
    regret = np.random.default_rng(0).random(1000)
    (label, rows, _), _, (_, hardest, _), *_ = html_replay._stretches(regret, None, 1, 100)
    assert label.startswith("whole replay, 1 of 10 steps")
    assert rows.tolist() == (regret.reshape(100, 10).argmax(axis=1) + np.arange(0, 1000, 10)).tolist()
    windows = np.convolve(regret, np.ones(33), "valid")
    assert hardest == slice(windows.argmax(), windows.argmax() + 33)


@pytest.fixture(scope="module")
def nasty(log, tmp_path_factory):
    """The page of a run whose every name is an attempt to be code."""
    scenarios = [Scenario(NASTY + n, "shiftgym/Provisioning-v0", f"{log}[:0.5]", f"{log}[0.5:]") for n in "ab"]
    suite = Suite(
        NASTY, tuple(scenarios), (AgentSpec("saa"), AgentSpec("random")), seeds=(0,), title=NASTY, remark=NASTY
    )
    folder = execute(suite, tmp_path_factory.mktemp("nasty")).run.folder
    info = json.loads((folder / "run.json").read_text())
    info["command"] = info["machine"]["cpu"] = NASTY
    info["traces"] = {NASTY: {**next(iter(info["traces"].values())), "licence": NASTY}}
    info["failed"] = {NASTY: NASTY}
    (folder / "run.json").write_text(json.dumps(info))
    report(Run(folder), Console(quiet=True))
    return folder / "report.html"


def test_names_from_users_are_text_and_never_code(nasty):
    page = Page(nasty.read_text())
    assert len(page.scripts) == 3
    assert not page.of("img")
    assert NASTY in page.words  # the title and more, as they are
    assert list(page.data["replays"]["scenarios"]) == [f"{NASTY}a", f"{NASTY}b"]


@pytest.mark.parametrize("agent", ["saa", "oracle"])  # who sees all has no regret to draw
def test_synthetic_traces_are_called_so(agent, tmp_path):
    trace = "synthetic-azure-2023-conv@10s"
    scenario = Scenario("home", "shiftgym/Provisioning-v0", f"{trace}[:0.5]", f"{trace}[0.5:]")
    run = execute(Suite("small", (scenario,), (AgentSpec(agent),), seeds=(0,)), tmp_path).run
    report(run, Console(quiet=True))
    page = Page((run.folder / "report.html").read_text())
    assert "Synthetic traces, generated and not measured: synthetic-azure-2023-conv." in page.words
    assert sum(a.get("class") == "kind synthetic" for a in page.of("span")) == 2
    assert "There is nothing to compare" in " ".join(page.words)
    assert ("distribution-figure" in page.data["figures"]) == (agent == "saa")


# ---- several runs
@pytest.fixture
def other(executed, tmp_path):
    """The run once more, with saa three times as dear in one scenario, and another shift in the other."""
    folder = shutil.copytree(executed, tmp_path / "two")
    run = Run(folder)
    for seed in (0, 1):
        steps = run.steps("home", "saa", seed)
        steps["cost"] += 2 * steps["cost"].abs()
        path = run.cell_file(run.find("home", "saa", seed)["id"]).with_suffix(".parquet")
        steps.to_parquet(path, index=False)
    info = json.loads((folder / "run.json").read_text())
    info["suite"]["scenarios"][1]["shift"] = "scale(factor=3.0, onset=0.5)"
    (folder / "run.json").write_text(json.dumps(info))
    return Run(folder)


def test_runs_side_by_side_are_compared_where_they_replay_the_same(run, other, tmp_path):
    runs = Runs([run, other])
    assert list(runs.runs) == ["one", "two"]
    console = Console(width=300)
    with console.capture() as capture:
        target = report_side_by_side(runs, console, tmp_path / "both.html")
    said = capture.get()
    assert "home, two: saa cost more than in one beyond chance; 1 of 2 common agents are within the noise." in said
    page = Page(target.read_text())
    row = next(row for row in page.rows if row[0] == "saa [two]" and "*" in row[1])
    assert sorted(row[2:]) == ["+0.0000 ±0.0000, 50%"] * 2 + ["–", "–"]
    scenarios = set(runs.summary["scenario"])
    assert scenarios == {"home", "grown [one]", "grown [two]", "noise x0", "noise x1"}
    looks = looks_of(runs)
    assert looks["saa [one]"].color == looks["saa [two]"].color != looks["random [one]"].color
    assert looks["saa [one]"].dash != looks["saa [two]"].dash
    assert "one" in " ".join(page.words)


def test_the_command_line_reports_one_run_or_several(run, capsys, tmp_path):
    twin = shutil.copytree(run.folder, tmp_path / "one")
    assert main(["report", str(run.folder), str(twin), "--out", str(tmp_path / "both.html")]) == 0
    assert "2 of 2 common agents are within the noise" in capsys.readouterr().out
    assert "one (2)" in (tmp_path / "both.html").read_text()
    assert main(["report", str(twin), "--out", "x.html"]) == 2
    assert "leave --out away" in capsys.readouterr().err


# ---- in a browser, where there is one
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser(run, tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.open(run.folder / "report.html")
        yield browser


ROWS = "[...shiftgym.figures['{}'].model.renderers[0].data_source.data.agent].sort()"
FILTER = "(box => {{ box.value = '{}'; box.dispatchEvent(new Event('input')) }})(document.getElementById('filter'))"
AGENTS = "[...document.querySelectorAll('#board tbody tr:not([hidden])')].map(row => row.dataset.agent)"


@needs_browser
def test_nothing_is_asked_of_a_network_and_nothing_goes_wrong(browser):
    assert not browser.problems
    assert browser.requests
    assert all(address.startswith(("file:///", "data:")) for address in browser.requests)
    heights = browser.js(
        "[...document.querySelectorAll('.figure')].map(figure => figure.firstElementChild.offsetHeight)"
    )
    assert len(heights) == browser.js("Object.keys(shiftgym.figures).length") >= 7
    assert min(heights) > 100


@needs_browser
def test_heads_sort_both_ways_and_by_keyboard(browser):
    values = "[...document.querySelectorAll('#board tbody tr')].map(row => Number(row.cells[4].dataset.value))"
    head = "document.querySelectorAll('#board thead button')[4]"
    browser.js(f"{head}.click()")
    assert browser.js(values) == sorted(browser.js(values))
    assert browser.js(f"{head}.parentNode.getAttribute('aria-sort')") == "ascending"
    browser.js(f"{head}.focus()")
    for kind in ("keyDown", "keyUp"):
        enter = {"key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}
        browser.call("Input.dispatchKeyEvent", type=kind, **enter)
    assert browser.js(values) == sorted(browser.js(values), reverse=True)
    assert browser.js("document.querySelectorAll('[aria-sort]').length") == 1
    browser.js("document.querySelector('#board thead button').click()")
    assert browser.js(AGENTS) == ["oracle", "random", "saa"]


@needs_browser
def test_filters_reach_table_and_figures(browser):
    drawn = ROWS.format("cost-figure")
    assert browser.js(drawn) == ["oracle", "random", "saa"]
    browser.js(FILTER.format("SA"))
    assert browser.js(AGENTS) == ["saa"]
    assert browser.js(drawn) == ["saa"]
    assert browser.js("document.getElementById('count').textContent") == "1 of 3 agents"
    browser.js(FILTER.format(""))
    browser.js("document.querySelector('[data-agent=random] input').click()")
    assert browser.js(drawn) == ["oracle", "saa"]
    assert browser.js(ROWS.format("distribution-figure")) == ["saa"]
    browser.js("document.getElementById('all').click()")
    assert len(browser.js(drawn)) == 3


@needs_browser
def test_the_replay_shows_what_is_chosen_and_moves_by_keys(browser, run):
    browser.js(
        "const s = document.getElementById('replay-scenario'); s.value = 'grown'; s.dispatchEvent(new Event('change'));"
        "const a = document.getElementById('first'); a.value = 'saa'; a.dispatchEvent(new Event('change'))"
    )
    steps = run.steps("grown", "saa", 0)
    note = browser.js("document.getElementById('replay-note').textContent")
    assert f"{steps['violation'].sum()} of {len(steps)} steps shown are violated by saa" in note
    assert browser.js("document.getElementById('inside-scenario').value") == "grown"
    assert browser.js("document.getElementById('legend-onset').hidden") is False
    span = "(({start, end}) => [start, end])(shiftgym.figures['replay-figure'].model.x_range)"
    start, end = browser.js(span)
    assert start == 1000 * steps["step_time"].iloc[0]
    browser.js("document.getElementById('viewer').dispatchEvent(new KeyboardEvent('keydown', {key: '+'}))")
    low, high = browser.js(span)
    assert (high - low) == pytest.approx((end - start) / 2)
    browser.js("document.getElementById('viewer').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    assert browser.js(span)[0] > low
    browser.js("document.querySelector('[data-move=everything]').click()")
    assert browser.js(span) == [start, end]
    assert not browser.problems


@needs_browser
def test_it_is_dark_where_the_reader_wants_it_and_fits_a_phone(browser, run):
    browser.open(run.folder / "report.html", width=390, height=844, scheme="dark")
    assert browser.js("document.documentElement.dataset.theme") == "dark"
    assert browser.js("document.documentElement.scrollWidth") <= 390
    browser.js("document.getElementById('theme').click()")
    assert browser.js("document.documentElement.dataset.theme") == "light"
    assert not browser.problems


@needs_browser
def test_names_from_users_are_text_to_a_browser(browser, nasty):
    browser.open(nasty)
    assert not browser.problems
    assert browser.js("document.querySelectorAll('img').length") == 0
    assert browser.js("document.title").startswith(NASTY)
