"""The embedded stack on one machine: real Kafka, Redis and PostgreSQL, an edge, the four services, the demo.

For development, tests and the demo; nothing of it is deployed.
"""
