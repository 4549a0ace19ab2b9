"""StatefulSets: pods with a name, an order and storage of their own."""
