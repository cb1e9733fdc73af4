"""What a utility runs: the consensus core and the ledger in a process, gRPC with mutual TLS around them.

host        one chain: drives the pure core, durable before sent      writer      the disk, in a thread of its own
application  what consensus asks: build, certify                      mempool     transactions that wait for a block
execution   blocks by the ledger's state machine                      deliveries  final blocks wait for their readings
batches     readings beside the chain: who needs which                batch_*     their file, checks, ways in and out
transport   one stream a pair of nodes                                frames      messages on a stream
identity    certificates, bound to consensus keys                     access      who may call what, how often
server      the public interface                                      node        all of it in one process
own_transactions  those that a node signs itself                accusations faults of peers, and evidence

interregional  what a node does between its chains                    registering  the hub learns of the regions
relay       carries proofs between hub and region                     turns       which of several nodes submits what
evidence    proofs for other chains                                   escrow_index  where their events stand

home        a node's folder                                           consortium  makes the folders of all organizations
roles       what a hub and a region have in genesis
"""
