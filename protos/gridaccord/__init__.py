"""The protobuf package `gridaccord`; one subpackage for each version of the contracts."""
