"""Requests that no client should send, made from Kubernetes' schemas, and what must hold of the answers.

bodies    objects from the schemas, spoiled; JSON, YAML, Kubernetes protobuf, patches
requests  methods, paths, queries and headers around them
run       the command: a server process, pipelined connections, what went wrong, memory over time
"""
