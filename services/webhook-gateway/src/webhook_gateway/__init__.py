"""webhook-gateway: verifies what telephony providers send, answers them, and tells Kafka what happened."""
