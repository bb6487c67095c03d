"""What z is drawn from without looking at data."""
