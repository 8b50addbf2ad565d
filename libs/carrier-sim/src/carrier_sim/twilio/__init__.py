"""A Twilio that never existed. Sources: https://www.twilio.com/docs/voice, /docs/usage/security, /docs/api/errors."""
