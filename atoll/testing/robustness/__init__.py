"""A history checker for Kubernetes API servers: random clients, recorded histories, faults, and what must hold.

history   what the clients did and saw
truth     the one order of changes that all of it must agree with
check     linearizability, watch order, gaps, duplicates, resurrections, bookmarks, resumes
traffic   the random clients, on the client port
faults    disks and clocks that misbehave, at the ports
planted   servers with a fault, to prove the checker
explore   seeds in virtual time: one process, a crash between any two turns of the loop
kills     real processes over HTTPS, killed and stopped
"""
