"""Recipes: functions that return a config. No torch."""
