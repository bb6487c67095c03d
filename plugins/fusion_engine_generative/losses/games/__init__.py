"""Adversarial games, one a file, on what they share."""
