"""The privileged worker: verifies bundles, writes slots, steers the bootloader."""
