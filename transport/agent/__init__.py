"""The agents: ordinary TCP programs take part with no code (R-1.3)."""
