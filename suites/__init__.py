"""Scenario suites as TOML: one per published table or figure, and ``quick``."""
