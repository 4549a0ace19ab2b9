"""Clock, randomness, ids, quantities, back-off and the error tree. Knows nothing of Kubernetes' API."""
