"""`make sim-days`: weeks of simulated terminals in shops, with the real agent (python -m tests.days)."""
