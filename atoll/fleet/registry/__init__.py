"""Which clusters there are, and whether they are well."""
