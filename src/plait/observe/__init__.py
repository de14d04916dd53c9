"""What an application tells: sinks of its events, and where logs go."""
