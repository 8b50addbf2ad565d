"""What the services of the telephony edge share.

The map: `identities` (ids, paths), `topics`, `events` (what happened), `records` (what is configured),
`providers` (one room per telephony provider), `agentlink` (the agent's WebSocket protocol), `audio`,
`bus` (Kafka), `security`, `telemetry`, `settings`.
"""
