"""CEL as Kubernetes speaks it: parsed by cel-expr-python, then type-checked, priced and run here.

`environment.Environment` is the door: variables declared by name and type, expressions compiled once (undeclared
names, undefined fields and wrong types found, in cel-go's words), programs run on plain JSON values under a cost limit.
Policies, match conditions of webhooks, and CEL in authentication, authorization and CRDs stand on it.
"""
