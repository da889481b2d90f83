"""What the operating system gives: addresses and names, descriptors, threads. Knows nothing of QUIC or spn/1."""
