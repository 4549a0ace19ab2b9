"""Default admission: what is changed or refused between authorisation and storage."""
