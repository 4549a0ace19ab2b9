"""Who may use how much, and whether it is fit."""
