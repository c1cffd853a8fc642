"""What is said before TLS, and to a mail server before its client's stream: bytes in, bytes out."""
