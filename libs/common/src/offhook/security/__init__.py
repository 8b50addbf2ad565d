"""Secrets and proofs: credentials at rest (`keyring`), media tokens (`tokens`), API keys (`api_keys`), and
keeping all of them out of what is written down (`redaction`).

Nothing is re-exported here: `redaction` needs less than the others do.
"""
