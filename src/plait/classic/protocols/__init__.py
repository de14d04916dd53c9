"""What protocols have in common: framing, policies, TLS."""
