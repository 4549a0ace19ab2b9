"""kubectl's server-side tables (meta.k8s.io Table) and PartialObjectMetadata.

`table.py` assembles answers; `printers.py` finds the columns of a kind; one module a family of kinds makes the cells.
"""
