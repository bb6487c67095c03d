"""What is inferred about z from features."""
