"""A Vonage that never existed. Sources: https://developer.vonage.com/en/voice/voice-api, and the official SDKs."""
