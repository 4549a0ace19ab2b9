"""Versioned storage: memory authoritative, an SQLite log makes it durable."""
