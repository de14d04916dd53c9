"""What operates a running application: one protocol, its server and its client."""
