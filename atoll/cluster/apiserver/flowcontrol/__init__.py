"""API Priority and Fairness (KEP-1040): who waits, who is served and who is refused when there is more than enough."""
