"""The verbs as functions over an Api; no HTTP here."""
