"""Programs of the demo images: run as files inside containers, never imported."""
