"""The API kinds we speak, their schemas and CRDs as package data."""
