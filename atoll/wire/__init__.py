"""HTTP/1.1 with TLS, client certificates, streams and connection hijack; WebSocket and SPDY framing.

Knows nothing of Kubernetes. The API server, the process node's kubelet port and the gateways stand on it.
"""
