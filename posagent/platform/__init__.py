"""Adapters that touch Linux: files, block devices, boot environment, power, watchdog."""
