"""What others may see of a system: log lines made from its events."""
