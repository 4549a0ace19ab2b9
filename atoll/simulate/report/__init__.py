"""What a person looks at after a simulation: one HTML file with everything in it, no script, no fetch."""
