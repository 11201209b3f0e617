"""Attack a policy: what the worst trace near the test trace costs it, and how much of that is the attack's doing.

    python examples/red_team.py

prints, for two agents on synthetic traces, the mean regret on the test trace as it is, under noise, and under the worst
perturbation of the same size that a search against that very agent finds.
"""

from __future__ import annotations

from dataclasses import replace

from shiftgym.data import load_trace
from shiftgym.evaluate import Scenario, evaluate

#: Root mean square of the distance that a slot is moved, in standard deviations of the test trace.
BUDGET = 0.3

calm = Scenario(
    "calm",
    "shiftgym/Provisioning-v0",
    train="synthetic-azure-2023-conv@30s[:0.5]",
    test="synthetic-azure-2023-conv@30s[0.5:]",
)
outcome = load_trace(calm.test).outcome
scale = BUDGET * outcome.std() / outcome.max()  # noise counts in shares of the maximum
noise = replace(calm, name="noise", shift=f"gaussian(scale={scale})")
attack = replace(calm, name="attack", shift=f"wasserstein-ball(budget={BUDGET})")

table = evaluate(["persistence", "residual-saa"], [calm, noise, attack], seeds=[0], jobs=1)
regret = table.pivot(index="agent", columns="scenario", values="regret")
print(regret[["calm", "noise", "attack"]].round(4).to_string())
