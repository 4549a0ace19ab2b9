"""Tokens of OIDC providers (KEP-3331): configured issuers, their keys, what their claims say of the user."""
