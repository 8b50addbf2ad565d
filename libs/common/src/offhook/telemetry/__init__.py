"""What operators see: `logging` (structured, redacted), `tracing` (one trace per call), `metrics` (each with
what to do).
"""
