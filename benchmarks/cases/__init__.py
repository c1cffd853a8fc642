"""The cases, one kind a file: what is done to a server, and what is measured."""
