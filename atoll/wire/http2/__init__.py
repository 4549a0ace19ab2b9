"""HTTP/2 (RFC 9113) for the server: frames, header compression, and the connection that carries requests."""
