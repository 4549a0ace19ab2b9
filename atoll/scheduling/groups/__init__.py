"""Which pods are a gang, in every dialect that users write it: read from pods and the objects that describe groups."""
