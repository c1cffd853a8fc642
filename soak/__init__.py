"""The soak: a real snigate under mixed traffic for a long time, and what must stay as it is meanwhile."""
