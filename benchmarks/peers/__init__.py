"""The servers that are compared, one file each: how it is configured and started, and what it can do."""
