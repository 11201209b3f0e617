"""Who wins: scenarios and suites, rollouts, scores, runs, reports and plots."""
