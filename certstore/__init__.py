"""Certificates: found in directories, paired with their keys, verified, ranked and selected by hostname."""
