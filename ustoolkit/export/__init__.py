"""Models for downstream apps."""
