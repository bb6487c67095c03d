"""Losses, a family a file."""
