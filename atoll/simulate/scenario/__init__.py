"""The scenario file: what is simulated, read and checked. Pure but for reading the files it names."""
