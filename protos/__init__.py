"""The wire contracts: .proto sources and, checked in beside them, the modules protoc generates (`make protos`)."""
