"""Keeps what providers hold of the phone numbers equal to what is configured here, and says where it is not.

`state` decides (pure), `reconciler` does, `store` remembers. `pacing` keeps within what an account may ask,
`detaching` lets deleted numbers go, `public_url` follows the installation's address.
"""
