"""What must hold in every run: looked at after each commit, and in full each virtual hour and at the end."""
