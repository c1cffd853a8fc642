"""The data plane: from a client's first byte to the backend's last."""
