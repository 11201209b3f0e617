"""Compare agents on scenarios: the function :func:`evaluate`, and the command line ``shiftgym``."""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

import shiftgym  # noqa: F401 (registers the environments)
from shiftgym.data.errors import ShiftgymError
from shiftgym.evaluation.agent_spec import AgentSpec, split_agents
from shiftgym.evaluation.fast import Fast
from shiftgym.evaluation.listing import KINDS, listing
from shiftgym.evaluation.pool import BACKENDS, make_pool
from shiftgym.evaluation.progress import for_console
from shiftgym.evaluation.results import Run
from shiftgym.evaluation.run import Interrupted, StoppedError, execute
from shiftgym.evaluation.scenario import Scenario, Suite, home_traces, load_suite, parse_seeds, sweep_scenarios

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AgentSpec", "Run", "Scenario", "Suite", "evaluate", "load_suite", "main"]

QUICK = "quick"
#: The column names in the specification of a trace of one's own, which the name of a scenario can do without.
_NO_COLUMNS = re.compile(r"\?[^@\[]*")


def evaluate(
    agents: Sequence[str | AgentSpec],
    scenarios: Sequence[Scenario],
    seeds: Sequence[int] = (0,),
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    backend: str = "local",
    address: str | None = None,
    device: str = "cpu",
) -> pd.DataFrame:
    """Fit every agent and replay every scenario, once per seed.

    Parameters
    ----------
    agents : sequence of str or AgentSpec
        Names, such as ``"saa"`` or ``"dfl(epochs=10)"``, or ``"module:Class"`` for agents of your own.
    scenarios : sequence of Scenario
        Where they are trained and what they replay. Those of a suite are ``load_suite("quick").scenarios``.
    seeds : sequence of int
        Each seeds the training and the shifts.
    out : path, optional
        Folder that keeps the run, which resumes when this is called again; a temporary one by default.
    jobs : int, optional
        Fits or cells that are computed at once; as many as there are cores by default. 1 stays in this process.
    backend : str
        ``"local"`` for processes of this machine, ``"ray"`` for a Ray cluster.
    address : str, optional
        Of a running Ray cluster; by default one is started on this machine.
    device : str
        Where agents are fitted.

    Returns
    -------
    DataFrame
        One row per scenario, agent and seed, one column per score.

    Raises
    ------
    ShiftgymError
        For a name that does not exist, before any work; and when cells failed, after all others are finished.

    Examples
    --------
    >>> scenario = Scenario("home", "shiftgym/Provisioning-v0", train="synthetic-azure-2023-conv@10s[:0.5]",
    ...                     test="synthetic-azure-2023-conv@10s[0.5:]")
    >>> table = evaluate(["oracle", "persistence"], [scenario], jobs=1)
    >>> table[["agent", "steps"]].values.tolist()
    [['oracle', 140.0], ['persistence', 140.0]]
    """
    specs = tuple(map(AgentSpec.parse, agents))
    suite = Suite("evaluate", scenarios=tuple(scenarios), agents=specs, seeds=parse_seeds(seeds))
    with tempfile.TemporaryDirectory(prefix="shiftgym-") as folder, make_pool(backend, jobs, address) as pool:
        tally = execute(suite, folder if out is None else out, pool=pool, device=device)
        if tally.failed:
            raise ShiftgymError("; ".join(f"{label}: {error}" for label, error in tally.failed.items()))
        return Run(tally.run.folder).results


# ---------------------------------------------------------------------- command line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 when done, 1 if anything failed, 2 for bad input, 130 if interrupted."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 240))  # tables in a log need not fit a screen
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options, console))
    except ShiftgymError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return {Interrupted: 130, StoppedError: 1}.get(type(error), 2)
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, console: Console) -> int:
    from shiftgym.evaluation.report import report  # matplotlib: not needed to refuse a bad suite

    suite = _suite(options)
    folder = Path(options.out or Path("runs") / suite.name.replace("/", "-"))
    with make_pool(options.backend, options.jobs, options.address) as pool:
        tally = execute(
            suite, folder, pool=pool, device=options.device, fits=options.fits, progress=for_console(console)
        )
    target = report(Run(folder), console)
    console.print(f"Results, pictures and report: {target.parent}", markup=False, highlight=False, soft_wrap=True)
    return 1 if tally.failed else 0


def _report(options: argparse.Namespace, console: Console) -> int:
    from shiftgym.evaluation.report import report, report_side_by_side
    from shiftgym.evaluation.runs import Runs

    runs = [Run.open(folder) for folder in options.runs]
    if len(runs) > 1:
        target = report_side_by_side(Runs(runs), console, Path(options.out or runs[0].folder / "compared.html"))
    elif options.out:
        raise ShiftgymError(f"--out {options.out}: a single run is reported in its own folder; leave --out away")
    else:
        runs[0].write_tables()
        target = report(runs[0], console).with_suffix(".html")
    console.print(f"Report: {target}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _list(options: argparse.Namespace, console: Console) -> int:
    console.print(listing(options.kind))
    return 0


def _suite(options: argparse.Namespace) -> Suite:
    """Return a named suite with some things replaced, or one made of the options."""
    made_here = {name: getattr(options, name) for name in ("env", "train", "test", "shifts", "severities")}
    if options.suite and any(made_here.values()):
        given = ", ".join(f"--{name}" for name, value in made_here.items() if value)
        raise ShiftgymError(f"{given} and suite {options.suite!r} exclude each other: the suite names its scenarios")
    suite = load_suite(options.suite or QUICK)
    if any(made_here.values()):
        suite = replace(
            suite,
            name="custom",
            title="",
            published=None,
            fast=Fast(),
            selection=None,
            scenarios=_scenarios(options, suite.scenarios[0]),
        )
    fast, suite = suite.fast, replace(suite, fast=Fast())
    if options.fast:
        fast.check(suite)
    # what the command line names is not for the fast form to replace
    if options.agents:
        agents = tuple(map(AgentSpec.parse, split_agents(options.agents)))
        selection = suite.selection and suite.selection.of({str(agent): agent for agent in agents})
        suite, fast = replace(suite, agents=agents, selection=selection), replace(fast, agents=())
    if options.seeds:
        seeds = _seeds(options.seeds)
        suite, fast = replace(suite, seeds=seeds), replace(fast, seeds=seeds)
    if options.scenarios:
        suite, fast = suite.only(options.scenarios, "--scenarios"), replace(fast, scenarios=())
    settings = dict(_setting(text) for text in options.set)
    scenarios = (replace(s, env_kwargs={**s.env_kwargs, **settings}) for s in suite.scenarios)
    suite = replace(suite, scenarios=tuple(scenarios))
    return fast.of(suite) if options.fast else suite


def _scenarios(options: argparse.Namespace, like: Scenario) -> tuple[Scenario, ...]:
    """Put every test trace under every shift; what is not given is as in the quick suite's first scenario.

    Another environment is trained on the first half of its own trace and tested on the second.
    """
    found: list[Scenario] = []
    env = options.env or like.env
    train, test = (like.train, like.test) if env == like.env else home_traces(env)
    base = Scenario("", env, options.train or train, "", env_kwargs={})
    tests = options.test or [test]
    short = {test: _NO_COLUMNS.sub("", test).removeprefix("file:") for test in tests}
    for test in tests:
        for shift in options.shifts or [""]:
            text = "" if shift == "none" else shift
            called = short[test] if len(set(short.values())) == len(tests) else test
            name = f"{called} | {text}" if text else called
            if options.severities:
                found += sweep_scenarios(replace(base, name=name, test=test, shift=text), options.severities)
            else:
                found.append(replace(base, name=name, test=test, shift=text))
    return tuple(found)


def _seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Read seeds written as ``0 1 2``, ``0,1,2`` or ``0-2``."""
    seeds: list[int] = []
    for part in ",".join(texts).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ShiftgymError(f"--seeds {part!r}: write whole numbers from 0 up, such as 0 1 2, 0,1,2 or 0-2")
        seeds += range(int(first), int(last or first) + 1)
    return parse_seeds(seeds)


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: give 1 or more")
    return int(text)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ShiftgymError(f"--set {text!r} has no form such as lookback=56")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shiftgym", description="Compare decision-making agents on traces under distribution shift.",
        epilog="Without a command, the quick suite is run on traces that need no download.",
    )  # fmt: skip
    commands = parser.add_subparsers(metavar="COMMAND")
    run = commands.add_parser("run", help="run a suite, or scenarios made of options; resumes what is unfinished")
    _add_run_options(run)
    show = commands.add_parser("report", help="report a run again, or several side by side")
    show.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run; of several for one page of all")
    show.add_argument("--out", metavar="FILE", help="page of several runs (default: compared.html in the first one)")
    show.set_defaults(command=_report)
    names = commands.add_parser("list", help="list what there is")
    names.add_argument("kind", choices=KINDS)
    names.set_defaults(command=_list)
    parser.set_defaults(**vars(run.parse_args([])))
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.set_defaults(command=_run)
    run.add_argument("suite", nargs="?", help="name of a suite, or a TOML file of your own (default: quick)")
    run.add_argument("--env", help="environment id")
    run.add_argument("--train", metavar="TRACE", help="trace to train on, NAME[@SLOT][[START:STOP]]")
    run.add_argument("--test", metavar="TRACE", nargs="+", help="traces to replay")
    run.add_argument("--shifts", metavar="SHIFT", nargs="+", help="shifts of the replayed traces; 'none' is one too")
    run.add_argument("--severities", metavar="X", nargs="+", type=float, help="sweep every shift over these")
    run.add_argument("--fast", action="store_true", help="the suite's fast form: fewer seeds, smaller budgets")
    run.add_argument("--scenarios", metavar="NAME", nargs="+", help="some scenarios and sweeps of the suite")
    run.add_argument("--agents", metavar="AGENT", nargs="+", help="NAME, 'NAME(key=value, ...)' or module:Class")
    run.add_argument("--seeds", metavar="N", nargs="+", help="0 1 2, 0,1,2 or 0-2: each seeds training and shifts")
    run.add_argument("--set", metavar="KEY=VALUE", nargs="+", default=[], help="keywords of the environment")
    run.add_argument("--out", metavar="FOLDER", help="folder of the run (default: runs/SUITE, runs/SUITE-fast)")
    run.add_argument("--fits", metavar="FOLDER", help="folder of fitted agents, to share them between runs")
    run.add_argument("--jobs", metavar="N", type=_jobs, help="fits or cells at once (default: one per core)")
    run.add_argument("--backend", choices=BACKENDS, default="local", help="where they run (default: %(default)s)")
    run.add_argument("--address", help="of a running Ray cluster (default: one is started here)")
    run.add_argument("--device", default="cpu", help="where agents are fitted (default: %(default)s)")


if __name__ == "__main__":
    from shiftgym.evaluate import main as installed_main  # workers must be able to import what they are sent

    sys.exit(installed_main())
