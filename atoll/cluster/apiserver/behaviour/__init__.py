"""What each built-in kind does beyond its schema: defaults, validation, strategy."""
