"""A node whose containers are local process trees: a kubelet of ours, for any API server.

It meets the API server only through `atoll.client.port.Client` and through its own kubelet HTTPS port.
"""
