"""How the bridge and a voice agent talk: `pcm` is the protocol for agents written for Offhook."""
