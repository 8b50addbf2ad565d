"""The providers there are. The only list of them."""
