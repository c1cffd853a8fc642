"""What the operator declares: TOML in, a checked and frozen model out."""
