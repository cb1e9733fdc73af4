"""Flow-based coupling across regions: the exact optimum of the whole in a few rounds of messages.

It is flow-based market coupling made nodal and exact. Once a topology each region publishes its Kron-reduced
boundary Laplacian; from these everybody forms the same boundary impedance. A flowgate, a line whose limit
matters, is published as a row over its owner's boundary buses, from which every region privately forms the
factors of its own buses. A round clears what was published against the active flowgates; a region objects
with its overloaded lines or misplaced offers, or accepts with a certificate.

`region` and `hub` are the two sides, `public` what both derive from published data, `price_rule` the public
choice among optimal prices, `session` runs the rounds in one process and says why they end.
"""
