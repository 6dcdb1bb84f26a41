"""Rigs and scenarios for terminals, simulated or real."""
