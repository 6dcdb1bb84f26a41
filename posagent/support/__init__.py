"""The worker that makes support bundles: redacted, bounded, sealed for the vendor."""
