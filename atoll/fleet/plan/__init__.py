"""What would happen, as one value: computed from reads alone, shown, kept in a file, and carried out as it is."""
