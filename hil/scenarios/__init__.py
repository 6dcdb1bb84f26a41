"""Scenarios: what must hold on every rig."""
