"""The operator's side: commands, HTTP endpoints, metrics and health."""
