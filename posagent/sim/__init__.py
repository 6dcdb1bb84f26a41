"""A whole simulated terminal: power, bootloader, clock, serial line, payment application."""
