"""The bundled sample set, in RMB's layout; see docs/sample.md."""
