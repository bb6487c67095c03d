"""What a run leaves for people: pictures, tables, samples."""
